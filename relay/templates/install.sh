#!/bin/sh
# Installs Converge's programs from the relay that wrote this script:
#
#     {{ line }}
#     {{ line }} -s -- agent
#
# Writes the programs into ~/.local/bin, or $CONVERGE_INSTALL_DIR, and nothing else. Nothing runs before the last line
# has arrived.

base={{ base }}
relay={{ relay }}
# The relay's key as curl wants it, where no authority has issued the certificate.
pin={{ pin }}

# What this relay has, with the checksums of the moment at which it wrote this.
checksum_of() {
    case $1 in
{%- for file in files %}
    {{ file.name }}) echo {{ file.sha256 }} ;;
{%- endfor %}
    *) return 1 ;;
    esac
}

usage() {
    cat <<'END'
usage: install.sh [PROGRAM…] [--dir DIR] [--save-relay]
  PROGRAM        client (the default), agent, relay or all
  --dir DIR      where to, instead of $CONVERGE_INSTALL_DIR or ~/.local/bin
  --save-relay   make this relay the client's default, if it has none
END
}

say() {
    printf '%s\n' "$*" >&2
}

fail() {
    say "install.sh: $*"
    exit 1
}

# Without /dev/null, which some roots do not have.
has() {
    [ -n "$(command -v "$1")" ]
}

platform() {
    system=$(uname -s) || fail "there is no uname here, so it is unknown which program would run"
    case $system in
    Linux) system=linux ;;
    Darwin) system=macos ;;
    MINGW* | MSYS* | CYGWIN*) fail "on Windows use PowerShell: irm ${base}install.ps1 | iex" ;;
    esac
    machine=$(uname -m)
    case $machine in
    amd64) machine=x86_64 ;;
    arm64) machine=aarch64 ;;
    esac
    echo "$system-$machine"
}

# fetch URL FILE. What comes is checked by its checksum below, so this needs no certificate that is trusted here; with
# a pin curl still refuses anybody else.
fetch() {
    if has curl; then
        set -- --fail --silent --show-error --location --retry 3 --connect-timeout 20 --output "$2" "$1"
        if curl --version | grep -q ' libz'; then set -- --compressed "$@"; fi
        if [ -n "$pin" ]; then set -- --insecure --pinnedpubkey "$pin" "$@"; fi
        curl "$@"
    elif has wget; then
        set -- -q -O "$2" "$1"
        if [ -n "$pin" ]; then set -- --no-check-certificate "$@"; fi
        wget "$@"
    else
        fail "neither curl nor wget is here; install one of them"
    fi
}

sha256_of() {
    if has sha256sum; then sum=$(sha256sum <"$1")
    elif has shasum; then sum=$(shasum -a 256 <"$1")
    elif has openssl; then sum=$(openssl dgst -sha256 -r <"$1")
    else fail "there is no sha256sum, shasum or openssl here to check what was downloaded; install one of them"
    fi
    echo "${sum%% *}"
}

# install_program NAME
install_program() {
    file=$1-$(platform) || exit 1
    expected=$(checksum_of "$file") ||
        fail "this relay has no $file; ask who runs it, or build it from source (cargo build --release)"
    part=$directory/.$1.part.$$
    trap 'rm -f "$part"' EXIT
    trap 'exit 130' INT TERM HUP
    (umask 077 && : >"$part") || fail "cannot write into $directory; choose another directory with --dir"
    fetch "${base}downloads/$file" "$part" ||
        fail "cannot download ${base}downloads/$file; the line above says why"
    found=$(sha256_of "$part") || exit 1
    [ "$found" = "$expected" ] ||
        fail "$file has the checksum $found and not $expected, so it was not installed; try again, and if it stays" \
            "so, something between here and the relay changes what is downloaded"
    if ! { chmod 755 "$part" && mv -f "$part" "$directory/$1"; }; then
        fail "cannot write $directory/$1; choose another directory with --dir"
    fi
    version=$("$directory/$1" --version) ||
        fail "$directory/$1 was installed but does not run here; the line above says why"
    say "installed $directory/$1 ($version)"
}

save_relay() {
    [ -n "${XDG_CONFIG_HOME:-}${HOME:-}" ] || fail "HOME is not set, so there is no file to save the relay in"
    config=${XDG_CONFIG_HOME:-$HOME/.config}/converge/config.toml
    if [ -e "$config" ]; then
        say "$config is there already and stays as it is; the line for this relay would be: relay = \"$relay\""
    else
        if ! { mkdir -p "${config%/*}" && printf 'relay = "%s"\n' "$relay" >"$config"; }; then
            fail "cannot write $config"
        fi
        say "$config names this relay now"
    fi
}

main() {
    directory=${CONVERGE_INSTALL_DIR:-}
    programs=
    save=
    while [ $# -gt 0 ]; do
        case $1 in
        client) programs="$programs converge" ;;
        agent) programs="$programs converge-agent" ;;
        relay) programs="$programs converge-relay" ;;
        all) programs="converge converge-agent converge-relay" ;;
        --dir)
            [ $# -ge 2 ] || fail "--dir wants a directory"
            directory=$2
            shift
            ;;
        --save-relay) save=yes ;;
        -h | --help)
            usage
            exit 0
            ;;
        *)
            usage >&2
            fail "what is '$1'?"
            ;;
        esac
        shift
    done
    if [ -z "$directory" ]; then
        [ -n "${HOME:-}" ] || fail "HOME is not set; say where to with --dir DIR"
        directory=$HOME/.local/bin
    fi
    mkdir -p "$directory" || fail "cannot make $directory; choose another directory with --dir"
    for program in ${programs:-converge}; do
        install_program "$program"
    done
    if [ -n "$save" ]; then save_relay; fi
    case :$PATH: in
    *":$directory:"*) ;;
    *)
        say "$directory is not on your PATH. For this shell, and in your shell's profile for all:"
        say "    export PATH=\"$directory:\$PATH\""
        ;;
    esac
}

main "$@"
