_se3t_complete() {
    local word="${COMP_WORDS[COMP_CWORD]}" command="${COMP_WORDS[1]}"
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{commands}" -- "$word"))
    elif [ "$command" = train ] || [ "$command" = eval ]; then
        # Hydra knows no commands: the line that it reads has none.
        local choices line="${COMP_LINE:0:COMP_POINT}"
        choices=$(COMP_LINE="se3t ${line#*[[:space:]]$command[[:space:]]}" se3t "$command" -sc query=bash 2>/dev/null)
        COMPREPLY=($(compgen -o nospace -o default -W "$choices" -- "$word"))
    elif [ "$command" = data ] && [ "$COMP_CWORD" -eq 2 ]; then
        COMPREPLY=($(compgen -W "prepare" -- "$word"))
    elif [ "$command" = runs ] && [ "$COMP_CWORD" -eq 2 ]; then
        COMPREPLY=($(compgen -f -W "compare" -- "$word"))
    elif [ "$command" = predict ]; then
        COMPREPLY=($(compgen -f -W "{models}" -- "$word"))
    else
        COMPREPLY=($(compgen -f -- "$word"))
    fi
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _se3t_complete se3t
