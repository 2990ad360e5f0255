# usage: bash drive.bash SCRIPT LINE: prints what bash's completion gives for a line, its words taken apart as bash does.
source "$1"
line=$2
COMP_LINE=$line COMP_POINT=${#line} COMP_WORDS=() rest=$line
while [[ $rest ]]; do
    if [[ $rest =~ ^[[:space:]]+ ]]; then
        rest=${rest#"${BASH_REMATCH[0]}"}
        [[ $rest ]] || COMP_WORDS+=("")
    elif [[ $rest =~ ^[:=]+ || $rest =~ ^[^[:space:]:=]+ ]]; then
        COMP_WORDS+=("${BASH_REMATCH[0]}")
        rest=${rest#"${BASH_REMATCH[0]}"}
    fi
done
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_wharf
printf '%s\n' "${COMPREPLY[@]}"
