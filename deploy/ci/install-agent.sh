#!/bin/sh
# What every template here does first, in the same words; interop-tests compare them. Wants the relay's URL in
# CONVERGE_RELAY and a directory for the program in CONVERGE_INSTALL_DIR.
set -eu
# Installs converge-agent from the relay, whose certificate is checked by its pin where the URL has one.
page=$(printf '%s' "${CONVERGE_RELAY%%#*}" | sed 's,^quic:,https:,; s,^ws,http,')
set -- -fsSL --retry 3
case $CONVERGE_RELAY in
*'#pin-sha256='*)
    pin=$(printf '%s=' "${CONVERGE_RELAY##*#pin-sha256=}" | tr '_-' '/+')
    set -- "$@" -k --pinnedpubkey "sha256//$pin"
    ;;
esac
script=$(curl "$@" "${page%/}/install.sh")
printf '%s\n' "$script" | sh -s -- agent --dir "$CONVERGE_INSTALL_DIR"
