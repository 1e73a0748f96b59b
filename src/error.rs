//! What can go wrong: an invalid request, a step that failed, a child that died in a step.

use std::fmt;

use nix::errno::Errno;

/// Why there is no child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The request could never work; nothing was cloned. The text carries the remedy.
    Invalid(String),
    /// The kernel refused this step.
    Step {
        /// The step's name, as [`crate::Plan::steps`] has it.
        step: &'static str,
        /// The path, the map line, the flags: what the step was about.
        detail: String,
        /// Why.
        errno: Errno,
    },
    /// The child was killed before it began to execute the program.
    Died {
        /// The step it was in.
        step: &'static str,
        /// What that step was about.
        detail: String,
        /// The signal, or 0 if another thread took the status away.
        signal: i32,
    },
}

impl Error {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(message) => f.write_str(message),
            Self::Step { step, detail, errno } => {
                write!(f, "{step}({detail}): {}", errno.desc())
            }
            Self::Died { step, detail, signal } => {
                write!(f, "{step}({detail}): killed by signal {signal}")
            }
        }
    }
}

impl std::error::Error for Error {}
