# Completion of fusion for bash:  eval "$(fusion completion bash)"  in ~/.bashrc
_fusion() {
    local line word current IFS=$'\n'
    line="${COMP_LINE:0:COMP_POINT}"
    word="${line##*[[:space:]]}"
    current="${COMP_WORDS[COMP_CWORD]}"
    [[ "$current" == [=:] ]] && current=""
    COMPREPLY=($("${COMP_WORDS[0]}" completion words "$line" 2>/dev/null))
    # readline replaces only what follows the last = or : of the word
    COMPREPLY=("${COMPREPLY[@]#"${word%"$current"}"}")
    if [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == *[=.] ]]; then
        compopt -o nospace
    fi
}
complete -o bashdefault -o default -F _fusion fusion
