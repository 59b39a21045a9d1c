// A step of a Jenkins shared library (this directory is its root): runs a command in the workspace and opens it for ssh if
// the command fails.
//
//     @Library('converge') _
//     pipeline {
//         agent any
//         options { timeout(time: 2, unit: 'HOURS') }
//         environment { CONVERGE_RELAY = 'https://relay.example:4433' }
//         stages { stage('test') { steps { converge 'make test' } } }
//     }
//
// Who may log in: .authorized_keys in the workspace, or for example environment { CONVERGE_GITHUB_USER = 'octocat' }.
// Where the relay wants a token: environment { CONVERGE_TOKEN = credentials('converge') }.
def call(String command) {
    withEnv(["CONVERGE_INSTALL_DIR=${env.WORKSPACE_TMP ?: env.WORKSPACE + '@tmp'}/converge", "CONVERGE_STEP=${command}"]) {
        sh label: 'install converge-agent', script: '''
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
printf '%s\\n' "$script" | sh -s -- agent --dir "$CONVERGE_INSTALL_DIR"
'''
        // The command goes as a variable: it is not to be read twice by a shell.
        sh label: command, script: '''
exec "$CONVERGE_INSTALL_DIR/converge-agent" run -- sh -ec "$CONVERGE_STEP"
'''
    }
}
