//! Terminal modes of a `pty-req` ([RFC 4254 section 8](https://www.rfc-editor.org/rfc/rfc4254#section-8)).
//!
//! Applied: all special characters, input, local and output flags that Linux has, character size, parity and speed.
//! Not applied, because the system or its interface has no such thing: `VDSUSP`, `VFLUSH`, `VSTATUS`, `PENDIN`.

use russh::Pty;
use rustix::termios::{ControlModes, InputModes, LocalModes, OutputModes, SpecialCodeIndex, Termios};

/// Value of a special character that is switched off, on the wire.
const DISABLED_ON_WIRE: u32 = 255;
/// The same in the system's settings (`_POSIX_VDISABLE`).
const DISABLED: u8 = 0;

/// Changes `settings` to what the client's own terminal has; codes without a meaning here are skipped.
pub(super) fn apply(settings: &mut Termios, modes: &[(Pty, u32)]) {
    for &(mode, value) in modes {
        if let Some(index) = special_character(mode) {
            settings.special_codes[index] =
                if value == DISABLED_ON_WIRE { DISABLED } else { u8::try_from(value).unwrap_or(DISABLED) };
        } else if let Some(flag) = input_flag(mode) {
            settings.input_modes.set(flag, value != 0);
        } else if let Some(flag) = local_flag(mode) {
            settings.local_modes.set(flag, value != 0);
        } else if let Some(flag) = output_flag(mode) {
            settings.output_modes.set(flag, value != 0);
        } else {
            apply_line(settings, mode, value);
        }
    }
}

fn apply_line(settings: &mut Termios, mode: Pty, value: u32) {
    match mode {
        Pty::CS7 if value != 0 => set_size(settings, ControlModes::CS7),
        Pty::CS8 if value != 0 => set_size(settings, ControlModes::CS8),
        Pty::PARENB => settings.control_modes.set(ControlModes::PARENB, value != 0),
        Pty::PARODD => settings.control_modes.set(ControlModes::PARODD, value != 0),
        // A speed the system does not know stays as it was: a PTY has none anyway, programs only look at it.
        Pty::TTY_OP_ISPEED => drop(settings.set_input_speed(value)),
        Pty::TTY_OP_OSPEED => drop(settings.set_output_speed(value)),
        _ => {}
    }
}

fn set_size(settings: &mut Termios, size: ControlModes) {
    settings.control_modes.remove(ControlModes::CSIZE);
    settings.control_modes.insert(size);
}

fn special_character(mode: Pty) -> Option<SpecialCodeIndex> {
    Some(match mode {
        Pty::VINTR => SpecialCodeIndex::VINTR,
        Pty::VQUIT => SpecialCodeIndex::VQUIT,
        Pty::VERASE => SpecialCodeIndex::VERASE,
        Pty::VKILL => SpecialCodeIndex::VKILL,
        Pty::VEOF => SpecialCodeIndex::VEOF,
        Pty::VEOL => SpecialCodeIndex::VEOL,
        Pty::VEOL2 => SpecialCodeIndex::VEOL2,
        Pty::VSTART => SpecialCodeIndex::VSTART,
        Pty::VSTOP => SpecialCodeIndex::VSTOP,
        Pty::VSUSP => SpecialCodeIndex::VSUSP,
        Pty::VREPRINT => SpecialCodeIndex::VREPRINT,
        Pty::VWERASE => SpecialCodeIndex::VWERASE,
        Pty::VLNEXT => SpecialCodeIndex::VLNEXT,
        Pty::VDISCARD => SpecialCodeIndex::VDISCARD,
        #[cfg(target_os = "linux")]
        Pty::VSWTCH => SpecialCodeIndex::VSWTC,
        _ => return None,
    })
}

fn input_flag(mode: Pty) -> Option<InputModes> {
    Some(match mode {
        Pty::IGNPAR => InputModes::IGNPAR,
        Pty::PARMRK => InputModes::PARMRK,
        Pty::INPCK => InputModes::INPCK,
        Pty::ISTRIP => InputModes::ISTRIP,
        Pty::INLCR => InputModes::INLCR,
        Pty::IGNCR => InputModes::IGNCR,
        Pty::ICRNL => InputModes::ICRNL,
        Pty::IXON => InputModes::IXON,
        Pty::IXANY => InputModes::IXANY,
        Pty::IXOFF => InputModes::IXOFF,
        #[cfg(target_os = "linux")]
        Pty::IUCLC => InputModes::IUCLC,
        #[cfg(target_os = "linux")]
        Pty::IMAXBEL => InputModes::IMAXBEL,
        #[cfg(target_os = "linux")]
        Pty::IUTF8 => InputModes::IUTF8,
        _ => return None,
    })
}

fn local_flag(mode: Pty) -> Option<LocalModes> {
    Some(match mode {
        Pty::ISIG => LocalModes::ISIG,
        Pty::ICANON => LocalModes::ICANON,
        Pty::ECHO => LocalModes::ECHO,
        Pty::ECHOE => LocalModes::ECHOE,
        Pty::ECHOK => LocalModes::ECHOK,
        Pty::ECHONL => LocalModes::ECHONL,
        Pty::NOFLSH => LocalModes::NOFLSH,
        Pty::TOSTOP => LocalModes::TOSTOP,
        Pty::IEXTEN => LocalModes::IEXTEN,
        Pty::ECHOCTL => LocalModes::ECHOCTL,
        Pty::ECHOKE => LocalModes::ECHOKE,
        #[cfg(target_os = "linux")]
        Pty::XCASE => LocalModes::XCASE,
        _ => return None,
    })
}

fn output_flag(mode: Pty) -> Option<OutputModes> {
    Some(match mode {
        Pty::OPOST => OutputModes::OPOST,
        Pty::ONLCR => OutputModes::ONLCR,
        Pty::OCRNL => OutputModes::OCRNL,
        Pty::ONOCR => OutputModes::ONOCR,
        Pty::ONLRET => OutputModes::ONLRET,
        #[cfg(target_os = "linux")]
        Pty::OLCUC => OutputModes::OLCUC,
        _ => return None,
    })
}
