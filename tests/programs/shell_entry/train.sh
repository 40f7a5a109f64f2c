# Say what a shell script is given.
printf 'arguments: %s\n' "$*"
printf 'epochs from the environment: %s\n' "$SM_HP_EPOCHS"
printf 'folder: %s\n' "$(pwd)"
exit 5
