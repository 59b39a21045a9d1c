#!/bin/sh
# What every template here does first, in the same words; interop-tests compare them. Wants the relay's URL in
# CONVERGE_RELAY and a directory for the program in CONVERGE_INSTALL_DIR.
set -eu
# Installs converge-agent from the relay, or the first of several; its certificate is checked by the pin in its URL, if any.
relay=${CONVERGE_RELAY%%[, ]*}
page=$(printf '%s' "${relay%%#*}" | sed 's,^quic:,https:,; s,^ws,http,')
set -- -fsSL --retry 3
case $relay in
*'#pin-sha256='*)
    pin=$(printf '%s=' "${relay##*#pin-sha256=}" | tr '_-' '/+')
    set -- "$@" -k --pinnedpubkey "sha256//$pin"
    ;;
esac
script=$(curl "$@" "${page%/}/install.sh")
printf '%s\n' "$script" | sh -s -- agent --dir "$CONVERGE_INSTALL_DIR"
