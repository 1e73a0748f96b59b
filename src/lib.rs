//! Clone a child into new Linux namespaces, set them up, execute a program, wait for it.
//!
//! ```text
//!            calling process (one thread)                      cloned child (shares the memory, own stack)
//! Options ─▶ Plan::new        validate, decide the order,
//!                             allocate everything              nothing is allocated, locked, dropped or unwound below
//!            block signals, guard-paged stack, report
//!            clone3(VM|VFORK|PIDFD|CLEAR_SIGHAND|NEW*) ──────▶ for step in the plan:
//!                 (the kernel holds this thread)                   report.stage = step, report.clock
//!                                                                  step.run()                   ── errno → report, exit
//!                                                                  report.stage = execve
//! Process ◀────── stage is execve, no errno ◀───────────────── execve(argv, envp)
//! Error   ◀────── errno, or dead before execve: the step's index; the plan, still in the parent's hand, knows its name
//! ```
//!
//! Some plans need a third process in between: to enter namespaces before new ones are made (and a pid namespace at
//! all), and to write id maps that a process may not write for itself. It shares memory and descriptor table with the
//! caller, makes the child a child of the caller (`CLONE_PARENT`), writes the maps, and is gone before `spawn` returns:
//!
//! ```text
//!            calling process                  intermediate                        child
//!            clone3(VM|VFORK|FILES) ────────▶ setns(…)
//!                 (held)                      clone3(PARENT|VM|PIDFD|NEW*) ─────▶ wait for the maps
//!                                             write /proc/PID/uid_map …, or
//!                                             newuidmap(1); then let it go ─────▶ the other steps
//!            reap it ◀─────────────────────── exit
//!            wait until it has left the memory ◀──────────────────────────────── execve
//! ```
//!
//! With `init` the first process in the new namespaces sets them up, makes the program and becomes our init:
//!
//! ```text
//!            calling process                  init (PID 1)                        child (PID 2)
//!            clone3(VM|VFORK|PIDFD|NEW*) ───▶ the steps of the namespaces
//!                 (held)                      clone3(VM|VFORK) ─────────────────▶ pidfd and pid to the socket
//!                                                  (held)                         the steps of a process
//!                                                                                 execve
//! Process ◀──────────────────────────────── execveat(a program of 3 KiB)
//!            status, from the socket ◀─────── reaps, tells, ends ◀─────────────── exit
//! ```
//!
//! What belongs to another namespace is read by a *visit*: such a child again, which enters the namespace, reads or
//! opens a few things there, and is gone. Nothing is executed, and the caller is not moved.
//!
//! ```text
//!            calling process                  child
//!            clone(VM|VFORK|FILES) ─────────▶ setns([owner,] namespace)
//!                 (held)                      read a file into the caller's buffer, open a socket that stays open
//!            reap it, look, talk ◀─────────── exit
//! ```
//!
//! A fork of Python cannot be such a child. It enters namespaces that a host's init holds; a pid namespace by going on
//! as another process, with all memory and its stack, while the old one ends without touching them:
//!
//! ```text
//!            calling process                  fork                                successor (PID 1)
//!            fork() ────────────────────────▶ get ready
//!            make the namespaces, let in ───▶ setns(…), unshare(PID)
//!                                             clone(VM|FILES|PARENT) ───────────▶ returns to Python
//!            reap it ◀─────────────────────── exit_group
//!            reap it too ◀─────────────────────────────────────────────────────── exit
//! ```
//!
//! Rust knows fds, ids and steps; Python knows `PIPE`, text and pictures. Nothing is decided after the clone. Every
//! fact has one row.

mod arena;
mod caller;
mod child;
mod dumpable;
mod enter;
mod error;
mod extras;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod idmap;
mod init;
pub mod inspect;
mod keeper;
mod memory;
mod mount;
mod namespace;
mod netlink;
mod options;
mod plan;
mod process;
#[cfg(feature = "python")]
mod python;
mod report;
mod rules;
mod spawn;
mod step;
mod sys;
mod time;
mod timeline;
mod twin;
mod visit;

pub use caller::Caller;
pub use enter::{Handshake, enter};
pub use error::Error;
pub use idmap::{IdRange, MapRequest};
pub use init::Init;
pub use inspect::NamespaceId;
pub use memory::collapse;
pub use mount::Propagation;
pub use namespace::{NAMESPACES, NamespaceSet, NamespaceType};
pub use options::{ClockOffset, Join, JoinSource, Options};
pub use plan::{Plan, Side};
pub use process::{Exit, Process};
pub use spawn::{Spawned, hold, spawn};
pub use step::Step;
pub use twin::{c_source, unshare_command};
