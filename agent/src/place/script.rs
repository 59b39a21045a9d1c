//! What `sh` does inside. Plain POSIX, and nothing but what is built into every `sh`: the container may have no more.
//!
//! Scripts get everything as arguments; nothing is ever pasted into their text.

/// Sets variables, leaves the mark, and goes to the directory; what comes behind it finds the rest in `$@`.
///
/// The mark is `CONVERGE_CHANNEL=CHANNEL.PROCESS-GROUP.`, and every process that a channel started is found by it.
///
/// Arguments: `NAME=value`…, `.`, the channel, the directory or nothing. The names of its own variables are such as
/// nobody exports, because a variable that is exported already would be changed for the program.
const BEGIN: &str = r#"
while [ "$1" != . ]; do export "$1"; shift; done
converge_channel=$2 converge_dir=$3
shift 3
converge_group=0
{ read -r converge_group < "/proc/$$/stat"; } 2>/dev/null
converge_group=${converge_group##*) }
converge_group=${converge_group#* }
converge_group=${converge_group#* }
export CONVERGE_CHANNEL="$converge_channel.${converge_group%% *}."
[ -z "$converge_dir" ] || cd "$converge_dir" || exit 126
"#;

/// Becomes a shell. Arguments, behind those of [`BEGIN`]: `command` or `shell`, the command line, shells to try first.
const SHELL: &str = r#"
converge_kind=$1 converge_line=$2
shift 2
case ${SHELL##*/} in nologin | false | true) SHELL= ;; esac
for converge_shell in "$@" "$SHELL" bash sh; do
    [ -n "$converge_shell" ] || continue
    converge_shell=$(command -v "$converge_shell") || continue
    export SHELL="$converge_shell"
    case $converge_kind in
    command) exec "$converge_shell" -c "$converge_line" ;;
    *) exec "$converge_shell" ;;
    esac
done
echo 'converge-agent: no shell found in the container' >&2
exit 126
"#;

/// Becomes a program. Arguments, behind those of [`BEGIN`]: the program and its arguments.
const PROGRAM: &str = r#"
exec "$@"
"#;

/// Signals what a channel started. Arguments: the channel; `group` for those that are still in the process group that
/// the first of them was born in, `all` for all; names of signals. Status 0: there was somebody.
///
/// `read` drops the zero bytes between variables, in every shell. A process that is not ours to look at is not ours.
pub(super) const SIGNAL: &str = r#"
mark="CONVERGE_CHANNEL=$1." scope=$2 found=1
shift 2
for directory in /proc/[0-9]*; do
    group=
    if [ "$scope" = group ]; then
        { read -r group < "$directory/stat"; } 2>/dev/null || continue
        group=${group##*) }
        group=${group#* }
        group=${group#* }
        group=${group%% *}.
    fi
    {
        while read -r line || [ -n "$line" ]; do
            case $line in
            *"$mark$group"*)
                for signal in "$@"; do kill -s "$signal" "${directory#/proc/}" && found=0; done
                break
                ;;
            esac
        done < "$directory/environ"
    } 2>/dev/null
done
exit "$found"
"#;

/// Prints where an sftp server is, if there is one.
pub(super) const FIND_SFTP: &str = r#"
for server in sftp-server /usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server /usr/lib/ssh/sftp-server \
    /usr/libexec/sftp-server; do
    command -v "$server" && exit 0
done
exit 0
"#;

/// Takes a program from standard input, and prints where it is now. Arguments: a name that nobody else has.
///
/// Status 1: there is nowhere to put it; 2: it does not run here.
pub(super) const TAKE: &str = r#"
umask 077
set -C
for directory in "${TMPDIR:-/tmp}" /var/tmp /; do
    file=$directory/$1
    { true > "$file"; } 2>/dev/null || continue
    set +C
    if cat > "$file" && chmod 700 "$file" && "$file" --version > /dev/null; then
        echo "$file"
        exit 0
    fi
    rm -f "$file"
    exit 2
done
exit 1
"#;

/// The script that becomes a shell.
pub(super) fn shell() -> String {
    format!("{BEGIN}{SHELL}")
}

/// The script that becomes a program.
pub(super) fn program() -> String {
    format!("{BEGIN}{PROGRAM}")
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Child, Command, Output, Stdio};

    use super::*;

    /// The shells that a container's `sh` is one of.
    const SHELLS: [&[&str]; 3] = [&["dash"], &["bash", "--posix"], &["busybox", "sh"]];

    fn script(shell: &[&str], script: &str, words: &[&str]) -> Command {
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).args(["-c", script, "sh"]).args(words).env("line", "theirs");
        command
    }

    fn output(shell: &[&str], text: &str, words: &[&str]) -> Output {
        script(shell, text, words).stdin(Stdio::null()).output().unwrap()
    }

    fn channel() -> String {
        format!("{:032x}", rand::random::<u128>())
    }

    #[test]
    fn every_sh_becomes_a_shell_with_variables_and_a_directory() {
        for sh in SHELLS {
            let line = r#"echo "$A|$B|$PWD|$line|$CONVERGE_CHANNEL"; echo "$0"; exit 7"#;
            let words = ["A=a b'\"$(x)", "B=.", ".", "ch", "/usr", "command", line, "/no/such", "dash"];
            let output = output(sh, &shell(), &words);
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.starts_with("a b'\"$(x)|.|/usr|theirs|ch."), "{sh:?}: {output:?}");
            assert!(said.ends_with("dash\n"), "{sh:?}: {said}");
            assert_eq!(output.status.code(), Some(7), "{sh:?}");
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        for sh in SHELLS {
            let output = output(sh, &shell(), &[".", "ch", "/no/such", "command", "echo no", "sh"]);
            assert_eq!((output.status.code(), output.stdout), (Some(126), vec![]), "{sh:?}");
            assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such"), "{sh:?}");
        }
    }

    /// A program with this channel's mark that has said that it runs.
    fn started(sh: &[&str], channel: &str, line: &str) -> Child {
        let mut child = script(sh, &shell(), &[".", channel, "", "command", line, "dash"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
        assert_eq!(first, "runs\n", "{sh:?}");
        child
    }

    /// Waits for the end of everything that holds the program's output.
    fn ended(mut child: Child) {
        child.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn signals_find_a_channels_programs_and_no_others() {
        for sh in SHELLS {
            let (ours, others) = (channel(), channel());
            let send = |channel: &str, scope: &str, signals: &[&str]| {
                let words = [&[channel, scope], signals].concat();
                output(sh, SIGNAL, &words).status.success()
            };
            let other = started(sh, &others, "echo runs; exec sleep 1000");
            let first = started(sh, &ours, "sleep 1001 & echo runs; wait");
            assert!(send(&ours, "group", &["TERM", "CONT"]), "{sh:?}");
            ended(first);
            assert!(!send(&ours, "group", &["TERM"]), "{sh:?}: nobody is left");

            // One that went away to a session of its own is found only by who looks for all.
            let detached = started(sh, &ours, "exec setsid sh -c 'echo runs; exec sleep 1002'");
            assert!(!send(&ours, "group", &["TERM"]), "{sh:?}");
            assert!(send(&ours, "all", &["KILL"]), "{sh:?}");
            ended(detached);
            assert!(send(&others, "all", &["KILL"]), "{sh:?}: the other channel's program was left alone");
            ended(other);
        }
    }

    #[test]
    fn a_program_that_is_taken_and_does_not_run_is_not_left_behind() {
        for sh in SHELLS {
            let dir = tempfile::tempdir().unwrap();
            let take = |program: &str| {
                script(sh, TAKE, &["name"])
                    .env("TMPDIR", dir.path())
                    .stdin(std::fs::File::open(program).unwrap())
                    .output()
                    .unwrap()
            };
            let taken = take("/bin/bash");
            let path = dir.path().join("name");
            assert_eq!(taken.status.code(), Some(0), "{taken:?}");
            assert_eq!(String::from_utf8_lossy(&taken.stdout).trim_end(), path.to_str().unwrap());
            std::fs::remove_file(&path).unwrap();

            assert_eq!(take("/etc/passwd").status.code(), Some(2), "{sh:?}");
            assert!(!path.exists(), "{sh:?}");
        }
    }
}
