# Completion of fusion for fish:  fusion completion fish > ~/.config/fish/completions/fusion.fish
function __fusion_complete
    set -l found (fusion completion words (commandline -cp | string collect) 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        set -l word (commandline -ct)
        set -l key (string match -r '^.*=' -- $word)
        for file in (__fish_complete_path (string replace -r '^.*=' '' -- $word))
            echo $key$file
        end
    end
end
complete -c fusion -f -a '(__fusion_complete)'
