//! The memory of one run: the stacks with guard pages below them, and the report.

use std::mem::size_of;
use std::sync::Mutex;

use nix::errno::Errno;

use crate::report::Report;
use crate::sys::{Mapping, PAGE};

/// The stacks, by who uses them.
pub const CHILD_STACK: usize = 0;
/// The intermediate process runs beside the child.
pub const INTERMEDIATE_STACK: usize = 1;
/// newuidmap(1) is started while both others live.
pub const HELPER_STACK: usize = 2;
/// The child of an init, which uses the first.
pub const PROGRAM_STACK: usize = 3;
/// How many there are.
pub const STACKS: usize = 4;

/// Mapped memory, used again by later runs.
pub struct Arena {
    memory: Mapping,
    shared: bool,
}

const STACK: usize = 65536;
const REPORT: usize = STACKS * (PAGE + STACK);
const LENGTH: usize = REPORT + size_of::<Report>();
/// Arenas kept for the next run: one each for as many threads as are likely to spawn at once.
const SPARE: usize = 4;

static SPARES: Mutex<Vec<Arena>> = Mutex::new(Vec::new());

impl Arena {
    /// `shared`: for a child that copies the rest of the memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn take(shared: bool) -> Result<Self, Errno> {
        // A fork may have left the lock taken for ever, so never wait for it.
        let spare = SPARES.try_lock().ok().filter(|_| !shared).and_then(|mut spares| spares.pop());
        spare.map_or_else(|| Self::map(shared), Ok)
    }

    fn map(shared: bool) -> Result<Self, Errno> {
        let memory = Mapping::new(LENGTH, shared)?;
        for stack in 0..STACKS {
            memory.guard(stack * (PAGE + STACK))?;
        }
        Ok(Self { memory, shared })
    }

    /// The lowest address and the size of this stack.
    #[must_use]
    pub fn stack(&self, stack: usize) -> (usize, usize) {
        (self.memory.address(stack * (PAGE + STACK) + PAGE), STACK)
    }

    /// What the processes of a run tell each other.
    #[must_use]
    pub fn report(&self) -> &Report {
        self.memory.view(REPORT)
    }

    /// Keeps it for the next run; only when no process uses it any more.
    pub fn give_back(self) {
        if self.shared {
            return;
        }
        if let Ok(mut spares) = SPARES.try_lock()
            && spares.len() < SPARE
        {
            spares.push(self);
        }
    }
}
