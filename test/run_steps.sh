#!/bin/sh
# Usage: run_steps.sh LOG_DIR STEP...    each STEP is a target of the Makefile
#
# Runs every step, also after one has failed, and repeats at the end what the runners themselves said
# last: a summary in nobody's words but theirs. Exits non-zero if any step failed.
set -u

logs=$1
shift
mkdir -p "$logs"
failed=

# plain LOG: without the colours of terminals.
plain() {
    tr -d '\033' <"$1" | sed 's/\[[0-9;]*m//g'
}

# failures LOG: which cases failed, and how each one's report begins.
failures() {
    plain "$1" | grep -E -A 4 -e '^%%% .*: FAILED$' -e '^test .* \.\.\. FAILED$' -e '^---- .* stdout ----$' -e '\*failed\*$' |
        cut -c 1-400 | head -n 60
}

# closing_lines LOG: the final verdicts that cargo test, EUnit, Common Test and the demo print.
closing_lines() {
    plain "$1" | grep -E \
        -e '^test result: ' \
        -e '^ *(All [0-9]+ tests passed\.|Test passed\.|Failed: [0-9]+\.|Failed [0-9]+ tests\.|Skipped [0-9]+ )' \
        -e '^(error|warning): ' \
        -e '^===> .*(failed|Warnings)' \
        -e '^demo: ' | grep -v '^test result: ok. 0 passed; 0 failed' | tail -n 12
}

for step in "$@"; do
    printf '\n======== %s ========\n' "$step"
    begin=$(date +%s)
    # A pipe's status is tee's: the step's own goes through a file.
    { ${MAKE:-make} --no-print-directory "$step" 2>&1; echo $? >"$logs/$step.status"; } | tee "$logs/$step.log"
    echo $(($(date +%s) - begin)) >"$logs/$step.seconds"
    [ "$(cat "$logs/$step.status")" -eq 0 ] || failed="$failed $step"
done

printf '\n======== summary ========\n'
for step in "$@"; do
    verdict=ok
    [ "$(cat "$logs/$step.status")" -eq 0 ] || verdict=FAILED
    printf '%-10s %-7s %4s s\n' "$step" "$verdict" "$(cat "$logs/$step.seconds")"
    closing_lines "$logs/$step.log" | sed 's/^ */           /'
    [ "$verdict" = ok ] || failures "$logs/$step.log" | sed 's/^/           | /'
done

if [ -n "$failed" ]; then
    printf '\nFAILED:%s\n' "$failed"
    exit 1
fi
printf '\nAll steps passed.\n'
