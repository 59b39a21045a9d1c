//! One session channel: what the client prepares, and then the one program it asks for.

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, Weak};

use russh::ChannelWriteHalf;
use russh::server::{Handle, Msg};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::channels::{ChannelTask, Slot};
use super::environment::{self, ClientEnvironment, Particulars};
use super::exit::{CANNOT_START, Exit};
use super::flow::InputReader;
use super::notices::ConnectionNotices;
use super::output::{ChannelOutput, Stream};
use super::process::{self, Launch, SignalRequests};
use super::shell::Purpose;
use super::terminal::Terminal;
use super::{SessionContext, Shared, elsewhere, file_transfer, shell, terminal};
use crate::events::Event;
use crate::place::Place;
use crate::platform::machine::text_from_client;
use crate::platform::pty::{Pty, PtyControl, PtySize};
use crate::platform::signals::Signal;
use crate::sftp::SftpConfig;
use crate::users::authorized_keys::KeyOptions;

/// Signal requests that wait for a program; more are dropped, as the kernel merges signals too.
const MAX_WAITING_SIGNALS: usize = 16;

/// The name of the subsystem, and of what a forced command calls to allow it, as in OpenSSH's configuration.
pub(super) const SFTP: &str = "sftp";
const INTERNAL_SFTP: &str = "internal-sftp";

/// What a user is told whose command may not run.
const NO_EXEC: &str =
    "converge-agent: commands are not allowed here, only a shell on a terminal and sftp\r\n";

/// The connection's view of a session channel.
pub(super) struct SessionChannel {
    terminal: Weak<PtyControl>,
    signals: mpsc::Sender<Signal>,
    preparation: Option<Preparation>,
}

/// What a channel has until its program is started.
struct Preparation {
    task: ChannelTask,
    slot: Slot,
    output: ChannelWriteHalf<Msg>,
    environment: ClientEnvironment,
    terminal: Option<(Pty, String)>,
    signals: SignalRequests,
}

/// What else decides about a program, besides what its channel was told.
pub(super) struct Surroundings<'a> {
    pub(super) shared: &'a Shared,
    pub(super) context: &'a SessionContext,
    pub(super) key: &'a KeyOptions,
    /// Where the program finds the client's authentication agent.
    pub(super) agent_socket: Option<&'a Path>,
    pub(super) notices: &'a Arc<ConnectionNotices>,
}

/// What a client asks a channel to run.
#[derive(Debug)]
pub(super) enum Request {
    Shell,
    Command(Vec<u8>),
    Sftp,
}

impl SessionChannel {
    pub(super) fn new(output: ChannelWriteHalf<Msg>, task: ChannelTask, slot: Slot) -> Self {
        let (signals, waiting) = mpsc::channel(MAX_WAITING_SIGNALS);
        let preparation = Preparation {
            task,
            slot,
            output,
            environment: ClientEnvironment::default(),
            terminal: None,
            signals: waiting,
        };
        Self { terminal: Weak::new(), signals, preparation: Some(preparation) }
    }

    /// Takes a variable; says whether it is allowed here and now.
    pub(super) fn set_variable(&mut self, name: &str, value: &str) -> bool {
        self.preparation.as_mut().is_some_and(|preparation| preparation.environment.set(name, value))
    }

    /// Opens a terminal for the program to come; says whether there is one.
    pub(super) fn open_terminal(&mut self, term: &str, size: PtySize, modes: &[(russh::Pty, u32)]) -> bool {
        let Some(preparation) = &mut self.preparation else { return false };
        if preparation.terminal.is_some() || term.contains('\0') {
            return false;
        }
        let pty = match Pty::open() {
            Ok(pty) => pty,
            Err(error) => {
                tracing::warn!(%error, "cannot open a terminal");
                return false;
            }
        };
        self.terminal = pty.control();
        preparation.terminal = Some((pty, term.to_owned()));
        self.resize(size);
        if let Some(Err(error)) = self.terminal.upgrade().map(|terminal| terminal.apply_modes(modes)) {
            debug!(%error, "cannot set the modes of a terminal");
        }
        true
    }

    /// Resizes the terminal, if there is (still) one.
    pub(super) fn resize(&self, size: PtySize) {
        if let Some(Err(error)) = self.terminal.upgrade().map(|terminal| terminal.resize(size)) {
            debug!(%error, "cannot resize a terminal");
        }
    }

    /// Passes a signal on to the program, now or when it starts.
    pub(super) fn signal(&self, signal: Signal) {
        if self.signals.try_send(signal).is_err() {
            debug!(signal = signal.as_raw(), "signal dropped: the program has ended or too many wait");
        }
    }

    /// The channel's one program, to be run as a task; `None` when it had one already.
    pub(super) fn start(
        &mut self,
        request: Request,
        connection: Handle,
        surroundings: &Surroundings<'_>,
    ) -> Option<impl Future<Output = ()> + Send + 'static + use<>> {
        let mut preparation = self.preparation.take()?;
        let pty = preparation.terminal.take();
        let greeting = greeting(&request, pty.is_some(), surroundings);
        let (kind, program) = choose(request, &preparation.environment, pty.as_ref(), surroundings);
        program.report(kind, pty.is_some(), surroundings);
        let Preparation { task: ChannelTask { input, closed, over }, slot, output, signals, .. } =
            preparation;
        // What a terminal shows may go on for ever without anybody.
        let activity = pty.is_none().then(|| surroundings.shared.activity.clone());
        let output = ChannelOutput::new(output, connection, activity);
        let pty =
            pty.map(|(pty, term)| Terminal { pty, notices: surroundings.notices.terminal(&term), greeting });
        Some(async move {
            Box::pin(run(program, pty, input, output, signals, closed)).await;
            drop((over, slot));
        })
    }
}

/// What will be run after a forced command has had its say.
enum Program {
    Launch(Launch),
    Sftp(SftpConfig),
    /// File transfer in a container.
    SftpInside {
        place: Place,
        read_only: bool,
        stopping: CancellationToken,
    },
    /// Nothing: this is what the user is told instead.
    Impossible(String),
}

impl Program {
    /// Tells of a program that is about to start.
    fn report(&self, kind: &'static str, terminal: bool, surroundings: &Surroundings<'_>) {
        let command = match self {
            Self::Launch(launch) => launch.command.as_ref().map(|line| line.to_string_lossy().into_owned()),
            Self::Sftp(_) | Self::SftpInside { .. } => None,
            Self::Impossible(_) => return,
        };
        let session = surroundings.context.id.clone();
        surroundings.shared.events.emit(Event::Exec { session, kind, command, terminal });
    }
}

/// What to run, and what that is called in events.
fn choose(
    request: Request,
    client: &ClientEnvironment,
    pty: Option<&(Pty, String)>,
    surroundings: &Surroundings<'_>,
) -> (&'static str, Program) {
    let Surroundings { shared, context, key, agent_socket, .. } = *surroundings;
    let forced = shared.policy.forced_command(key);
    let is_sftp = match forced {
        Some(forced) => forced.trim() == INTERNAL_SFTP,
        None => matches!(request, Request::Sftp),
    };
    if is_sftp && let Some(place) = &shared.place {
        let read_only = shared.policy.read_only_sftp;
        let (place, stopping) = (place.clone(), context.stopping.clone());
        return ("sftp", Program::SftpInside { place, read_only, stopping });
    }
    if is_sftp {
        let config =
            SftpConfig { root_dir: shared.working_dir.clone(), read_only: shared.policy.read_only_sftp };
        return ("sftp", Program::Sftp(config));
    }
    let kind = if forced.is_none() && matches!(request, Request::Shell) { "shell" } else { "exec" };
    let is_command = matches!(request, Request::Command(_)) || pty.is_none();
    if forced.is_none() && is_command && !shared.policy.exec {
        return (kind, Program::Impossible(NO_EXEC.to_owned()));
    }
    let requested: Option<OsString> = match request {
        Request::Shell => None,
        Request::Command(line) => Some(text_from_client(line)),
        Request::Sftp => Some(INTERNAL_SFTP.into()),
    };
    let terminal_name = pty.and_then(|(pty, _)| pty.name().ok());
    let terminal = pty.zip(terminal_name.as_deref()).map(|((_, term), name)| (term.as_str(), name));
    let (command, original_command) = match forced {
        Some(forced) => (Some(forced.into()), requested.as_deref()),
        None => (requested.clone(), None),
    };
    if let Some(place) = &shared.place {
        let launch =
            elsewhere::launch(place, command.as_deref(), original_command, client, terminal, surroundings);
        return (kind, Program::Launch(launch));
    }
    let purpose = if command.is_some() { Purpose::Command } else { Purpose::Person };
    let Some(shell) = shell::choose(purpose, &shared.shells, &shared.environment) else {
        return (kind, Program::Impossible("converge-agent: no shell found\r\n".to_owned()));
    };
    let environment = environment::build(
        &shared.environment,
        context,
        &Particulars {
            client,
            key: &key.environment,
            shell: shell.as_os_str(),
            working_dir: shared.working_dir.as_os_str(),
            terminal,
            original_command,
            agent_socket,
        },
    );
    let launch = Launch {
        shell,
        command,
        environment,
        working_dir: shared.working_dir.clone(),
        stopping: context.stopping.clone(),
        inside: None,
    };
    (kind, Program::Launch(launch))
}

/// What a shell on a terminal begins with, unless a command is forced.
fn greeting(request: &Request, has_terminal: bool, surroundings: &Surroundings<'_>) -> Option<String> {
    let Surroundings { shared, context, key, .. } = *surroundings;
    let is_forced = shared.policy.forced_command(key).is_some();
    let greets = has_terminal && matches!(request, Request::Shell) && !is_forced;
    let text = shared.login_text.as_ref().filter(|_| greets)?;
    Some(text.for_session(&context.id, &shared.life.snapshot()))
}

/// Runs a channel's program and ends the channel.
async fn run(
    program: Program,
    pty: Option<Terminal>,
    input: InputReader,
    output: ChannelOutput,
    signals: SignalRequests,
    cancel: CancellationToken,
) {
    let exit = match (program, pty) {
        (Program::Launch(launch), pty) => {
            match elsewhere::arrive(&launch, pty.is_some(), &output, &cancel).await {
                Some(Ok(())) => run_launch(&launch, pty, input, &output, signals, &cancel).await,
                Some(Err(text)) => fail(&output, text, &cancel).await,
                None => None,
            }
        }
        (Program::SftpInside { place, read_only, stopping }, _) => {
            match elsewhere::sftp(&place, read_only, stopping, &output, &cancel).await {
                Some(Ok(launch)) => run_launch(&launch, None, input, &output, signals, &cancel).await,
                Some(Err(text)) => fail(&output, text, &cancel).await,
                None => None,
            }
        }
        (Program::Sftp(config), _) => file_transfer::run(config, input, &output, &cancel).await,
        (Program::Impossible(text), _) => fail(&output, text, &cancel).await,
    };
    let Some(exit) = exit else { return };
    debug!(?exit, "program ended");
    output.finish(exit).await;
}

async fn run_launch(
    launch: &Launch,
    pty: Option<Terminal>,
    input: InputReader,
    output: &ChannelOutput,
    signals: SignalRequests,
    cancel: &CancellationToken,
) -> Option<Exit> {
    let result = match pty {
        Some(pty) => terminal::run(launch, pty, input, output, signals, cancel).await,
        None => process::run(launch, input, output, signals, cancel).await,
    };
    match result {
        Ok(exit) => exit,
        Err(error) => fail(output, launch.failure(&error), cancel).await,
    }
}

async fn fail(output: &ChannelOutput, text: String, cancel: &CancellationToken) -> Option<Exit> {
    tracing::warn!(reason = text.trim_end(), "cannot start a program");
    tokio::select! {
        biased;
        () = cancel.cancelled() => None,
        _ = output.send(Stream::Stderr, text) => Some(Exit::Status(CANNOT_START)),
    }
}
