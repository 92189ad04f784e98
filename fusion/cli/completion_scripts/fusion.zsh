#compdef fusion
# Completion of fusion for zsh:  eval "$(fusion completion zsh)"  in ~/.zshrc, after compinit
_fusion() {
    local -a found
    found=("${(@f)$("${words[1]}" completion words "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
    found=("${(@)found:#}")
    if (( ! $#found )); then
        compset -P '*='
        _files
        return
    fi
    compadd -Q -S '' -- "${(@M)found:#*[=.]}"
    compadd -Q -- "${(@)found:#*[=.]}"
}
compdef _fusion fusion
