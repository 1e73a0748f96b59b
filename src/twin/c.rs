//! A plan as a C program in the manner of a first course on clone(2): a stack, a child function, clone, waitpid.

use std::ffi::CStr;
use std::slice;

use nix::sys::signal::Signal;

use super::c_parts::{DIE, ENTER_JOINED, GATE, INCLUDES, LOOPBACK, MAP_HELPER, NOTES, STACK, WAIT, WRITE_PROC};
use super::{joined, octal, one_line, own_environment, unshare::quote};
use crate::namespace::NamespaceSet;
use crate::options::Join;
use crate::plan::{Plan, Side};
use crate::step::{Exec, Step, Whose};

/// The same experiment as a complete program; its exit status is the child's, or 128 plus its signal.
///
/// It is the plan for clone(2): C libraries have no function for clone3(2).
#[must_use]
pub fn c_source(plan: &Plan) -> String {
    let plan = &if plan.legacy { plan.clone() } else { plan.with_legacy_clone() };
    let mut source = Source::default();
    source.prepare(plan);
    for (side, step) in &plan.steps {
        source.step(plan, *side, step);
    }
    source.text(plan)
}

/// The program in parts.
#[derive(Default)]
struct Source {
    /// What the program leaves out, and why.
    notes: Vec<&'static str>,
    data: Vec<String>,
    functions: Vec<&'static str>,
    child: Vec<String>,
    main: Vec<String>,
    /// Whether the parent writes the child's maps, through `/proc`.
    writes_maps: bool,
}

impl Source {
    /// What several steps share.
    fn prepare(&mut self, plan: &Plan) {
        let any = |wanted: fn(&Step) -> bool| plan.steps.iter().any(|(_, step)| wanted(step));
        if any(|step| matches!(step, Step::AwaitMaps | Step::ParentDeathSignal(_))) {
            self.data.push(GATE.to_owned());
            self.main.push(checked("pipe2(gate, O_CLOEXEC)", "pipe"));
            self.child.push("    close(gate[1]);".to_owned());
        }
        if any(|step| matches!(step, Step::WriteMap(..) | Step::TimensOffsets(_))) {
            self.functions.push(WRITE_PROC);
            self.main.push(checked("proc = open(\"/proc\", O_PATH | O_DIRECTORY | O_CLOEXEC)", "/proc"));
        }
        if any(|step| matches!(step, Step::MapHelper(..))) {
            self.functions.push(MAP_HELPER);
        }
        if plan.has_intermediate() {
            self.notes.push("intermediate: main is a process of its own; it may enter namespaces, and write id maps");
        }
        self.writes_maps = any(|step| matches!(step, Step::WriteMap(_, Whose::Childs, _)));
    }

    fn step(&mut self, plan: &Plan, side: Side, step: &Step) {
        let name = step.name();
        let code = match step {
            Step::Clone(_) if side == Side::Init || (side == Side::Parent && plan.has_intermediate()) => return,
            Step::Clone(types) => self.clone(*types),
            // enter_joined opens them, all of them before it enters the first.
            Step::OpenNs(_) | Step::KeepCapabilities => return,
            // A process of its own enters them all at once.
            Step::Setns(_) => self.setns(&plan.options.join),
            Step::EnterTime(_) if self.functions.contains(&ENTER_JOINED) => return,
            Step::EnterTime(join) => self.setns(slice::from_ref(join)),
            Step::Unshare(types) => unshare(*types),
            Step::AwaitMaps => "    char go;\n    if (read(gate[0], &go, 1) != 1)\n        _exit(125);".to_owned(),
            Step::WriteMap(file, whose, text) => write_proc(*whose, file.name(), text),
            Step::MapHelper(_, program, words) => {
                let words: Vec<_> = words.iter().map(|word| word.to_bytes()).collect();
                let program = literal(quote(program.to_bytes()).as_bytes());
                format!("    map_helper({program}, pid, {});", literal(&words.join(&b' ')))
            }
            Step::TimensOffsets(text) => write_proc(Whose::Own, name, text),
            Step::Propagation(flags, _) => mount("none", c"/", "NULL", flags, ""),
            // No mount point is there yet, so nothing can travel through it.
            Step::MakePrivate(path) => mount("none", path, "NULL", "MS_REC|MS_PRIVATE", " && errno != EINVAL"),
            Step::MountProc(path) => mount("proc", path, "\"proc\"", "MS_NOSUID|MS_NODEV|MS_NOEXEC", ""),
            Step::Loopback => {
                self.functions.push(LOOPBACK);
                "    loopback_up();".to_owned()
            }
            Step::Sethostname(text) | Step::Setdomainname(text) => {
                checked(&format!("{name}({}, {})", literal(text), text.len()), name)
            }
            Step::Chdir(path) => checked(&format!("chdir({})", literal(path.to_bytes())), name),
            Step::Umask(mask) => format!("    umask(0{mask:o});"),
            Step::RestoreSignals => "    signal(SIGPIPE, SIG_DFL);\n    signal(SIGXFSZ, SIG_DFL);".to_owned(),
            Step::Setsid => checked("setsid()", name),
            Step::Setpgid(group) => checked(&format!("setpgid(0, {group})"), name),
            Step::ExtraGroups(groups) => extra_groups(groups),
            Step::Setgid(gid) => checked(&format!("setregid({gid}u, {gid}u)"), name),
            Step::Setuid(uid) => checked(&format!("setreuid({uid}u, {uid}u)"), name),
            Step::ParentDeathSignal(signal) => parent_death_signal(*signal),
            Step::CloseFds(ranges) => {
                lines(ranges.iter().map(|(first, last)| checked(&format!("close_range({first}u, {last}u, 0)"), name)))
            }
            Step::PassFds(fds) => {
                self.notes.push("pass_fds: these descriptors must be open where this program is started");
                lines(fds.iter().map(|fd| checked(&format!("fcntl({fd}, F_SETFD, 0)"), name)))
            }
            Step::Execve(exec) => self.execve(&plan.options.executable, exec),
            Step::ClearHandlers => {
                return self.notes.push("clear_sighand: this program has installed no signal handler");
            }
            Step::UnshareFiles => return self.notes.push("unshare_files: clone has copied the descriptor table"),
            Step::Stdio => return self.notes.push("stdio: 0, 1 and 2 are those of this program"),
            Step::NoteNamespaces(..) => return self.notes.push("note_namespaces: nobody asks this program for them"),
            Step::Keep(..) => return self.notes.push("keep: nobody asks this program for its namespaces"),
            Step::SendPidfd => return self.notes.push("send_pidfd: main knows its child"),
            Step::ExecInit(_) => return self.notes.push("init: left out; the program is PID 1, or there is none"),
            Step::SignalMask => return self.notes.push("sigmask: this program has blocked no signal"),
        };
        if matches!(side, Side::Child | Side::Init) { self.child.push(code) } else { self.main.push(code) }
    }

    fn clone(&self, types: NamespaceSet) -> String {
        let flags: Vec<_> = types.rows().map(|(_, row)| row.c_name).chain(["SIGCHLD"]).collect();
        let flags: Vec<_> = flags.chunks(4).map(|some| some.join(" | ")).collect();
        let call = format!("    pid_t pid = clone(child, stack + STACK_SIZE, {}, NULL);", flags.join(" |\n        "));
        let process = "\n    char process[16];\n    snprintf(process, sizeof(process), \"%d\", pid);";
        let process = if self.writes_maps { process } else { "" };
        format!("{call}\n{}{process}", checked("pid", "clone"))
    }

    fn setns(&mut self, joins: &[Join]) -> String {
        let entry = |joined: super::Joined| match joined.file {
            Some((row, path)) => {
                format!("    {{{}, {}, -1}}, /* {} */", literal(&path), row.c_name, comment(&joined.text))
            }
            None => format!("    {{\"\", 0, -1}}, /* {}: there is no file for it */", comment(&joined.text)),
        };
        let entries = lines(joined(joins).into_iter().map(entry));
        self.data.push(format!(
            "/* The namespaces to enter, the mount namespace last: it changes the root. */\nstatic struct {{\n    \
             const char *path;\n    int type, fd;\n}} joined[] = {{\n{entries}\n}};"
        ));
        self.functions.push(ENTER_JOINED);
        "    enter_joined();".to_owned()
    }

    fn execve(&mut self, executable: &CStr, exec: &Exec) -> String {
        let strings =
            |strings: &[std::ffi::CString]| lines(strings.iter().map(|s| format!("    {},", literal(s.to_bytes()))));
        let argv = exec.argv.strings();
        self.data.push(format!("static char *const child_args[] = {{\n{}\n    NULL\n}};", strings(&argv)));
        let mut environ = "";
        if let Some(environment) = own_environment(exec) {
            let separator = if environment.is_empty() { "" } else { "\n" };
            self.data.push(format!("static char *child_env[] = {{{separator}{}\n    NULL\n}};", strings(&environment)));
            environ = "    environ = child_env;\n";
        }
        let is_first = argv.first().is_some_and(|first| first.as_c_str() == executable);
        let file = if is_first { "child_args[0]".to_owned() } else { literal(executable.to_bytes()) };
        let function = if executable.to_bytes().contains(&b'/') {
            "execv"
        } else {
            self.notes.push("execve: execvp(3) gives a file that is no program to /bin/sh; nslab does not");
            "execvp"
        };
        format!(
            "{environ}    {function}({file}, child_args);\n    int reason = errno;\n    perror({file});\n    \
             return reason == ENOENT ? 127 : 126;"
        )
    }

    fn text(self, plan: &Plan) -> String {
        let steps = lines(plan.to_string().lines().map(|line| format!(" *   {}", comment(line))));
        let notes = lines(self.notes.iter().map(|note| format!(" * - {note}")));
        let mut parts =
            vec![format!("/*\n * The plan, which main and child follow:\n *\n{steps}\n *\n{NOTES}\n{notes}\n */")];
        parts.push(INCLUDES.to_owned());
        parts.extend(self.data);
        parts.push(DIE.to_owned());
        parts.extend(self.functions.into_iter().map(str::to_owned));
        parts.push(format!("static int child(void *arg)\n{{\n    (void)arg;\n{}\n}}", self.child.join("\n")));
        let go = plan.steps.iter().any(|(_, step)| matches!(step, Step::AwaitMaps));
        let go = if go { checked("write(gate[1], \"\", 1)", "gate") + "\n" } else { String::new() };
        parts.push(format!("int main(void)\n{{\n{STACK}\n{}\n{go}{WAIT}\n}}\n", self.main.join("\n")));
        parts.join("\n\n")
    }
}

/// A call, and the end of the process where it fails.
fn checked(call: &str, step: &str) -> String {
    let call = if call.contains(" = ") { format!("({call})") } else { call.to_owned() };
    format!("    if ({call} < 0)\n        die(\"{step}\");")
}

fn unshare(types: NamespaceSet) -> String {
    let why = "    /* clone(2) has no room for this flag; execve enters the namespace (since Linux 6.2). */";
    format!("{why}\n{}", checked(&format!("unshare({types})"), "unshare"))
}

fn write_proc(whose: Whose, file: &str, text: &str) -> String {
    let process = if whose == Whose::Own { "\"self\"" } else { "process" };
    format!("    write_proc({process}, \"{file}\", {});", literal(text.as_bytes()))
}

fn mount(source: &str, target: &CStr, kind: &str, flags: &str, unless: &str) -> String {
    let step = if source == "proc" { "mount_proc" } else { "propagation" };
    let call = format!("mount(\"{source}\", {}, {kind}, {}, NULL)", literal(target.to_bytes()), spaced(flags));
    format!("    if ({call} < 0{unless})\n        die(\"{step}\");")
}

fn extra_groups(groups: &[u32]) -> String {
    if groups.is_empty() {
        return checked("setgroups(0, NULL)", "extra_groups");
    }
    let ids: Vec<_> = groups.iter().map(|gid| format!("{gid}u")).collect();
    let call = checked(&format!("setgroups({}, groups)", groups.len()), "extra_groups");
    format!("    const gid_t groups[] = {{{}}};\n{call}", ids.join(", "))
}

fn parent_death_signal(signal: i32) -> String {
    let name = Signal::try_from(signal).map_or(signal.to_string(), |signal| signal.as_str().to_owned());
    let why = "    /* A parent that is gone already sends no signal; its end of the pipe is closed then. */";
    let ask = checked(&format!("prctl(PR_SET_PDEATHSIG, {name})"), "pdeathsig");
    let look = format!(
        "    struct pollfd parent = {{.fd = gate[0]}};\n    if (poll(&parent, 1, 0) > 0)\n        _exit(128 + {name});"
    );
    format!("{ask}\n{why}\n{look}")
}

fn lines(lines: impl IntoIterator<Item = String>) -> String {
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

fn spaced(flags: &str) -> String {
    flags.replace('|', " | ")
}

fn comment(text: &str) -> String {
    one_line(text).replace("*/", "* /").replace("/*", "/ *")
}

/// A string literal of exactly these bytes: letters as they are, what compilers might read otherwise in octal.
fn literal(bytes: &[u8]) -> String {
    let text = |text: &str| text.chars().map(escaped).collect::<String>();
    let all: String = bytes.utf8_chunks().flat_map(|chunk| [text(chunk.valid()), octal(chunk.invalid())]).collect();
    format!("\"{all}\"")
}

fn escaped(c: char) -> String {
    match c {
        '\n' => "\\n".to_owned(),
        // Two question marks may begin a trigraph.
        '"' | '\\' | '?' => format!("\\{c}"),
        ' '..='~' => c.to_string(),
        _ if c.is_alphanumeric() => c.to_string(),
        _ => octal(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}
