# usage: zsh -f drive.zsh SCRIPT LINE DIRECTORY: prints what zsh's completion adds for a line, in a shell on a terminal.
zmodload zsh/zpty
zpty shell "zsh -f -i"
setup="PROMPT= RPROMPT=; unsetopt zle_bracketed_paste prompt_sp; autoload -Uz compinit; compinit -u -d ${(q)3}/dump
source ${(q)1}
compadd() {
    if [[ \${@[1,(i)(-|--)]} == *-(O|A|D)\\ * ]]; then builtin compadd \"\$@\"; return \$?; fi
    typeset -a found
    builtin compadd -A found \"\$@\"
    print -rl -- \"<\"\$^found\">\"
    builtin compadd \"\$@\"
}
finish() { print END-OF-COMPLETION; exit }
comppostfuncs=(finish)
bindkey '^I' complete-word
print READ\"\"Y"
for line in "${(f)setup}"; do zpty -w shell "$line"; done
while zpty -r shell answer; do [[ $answer == *READY* ]] && break; done
zpty -w -n shell "$2"$'\t'
while zpty -r shell answer; do
    answer=${answer//$'\r'/}
    [[ $answer == *END-OF-COMPLETION* ]] && break
    [[ $answer == *"<"*">"* ]] && print -r -- ${${answer##*<}%%>*}
done
