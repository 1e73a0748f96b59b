//! A plan as a line for unshare(1) of util-linux.

use std::ffi::CString;
use std::slice;

use nix::sys::signal::Signal;

use super::{joined, octal, one_line, own_environment};
use crate::mount::Propagation;
use crate::namespace::NamespaceSet;
use crate::options::Join;
use crate::plan::Plan;
use crate::step::{Exec, MapFile, Step, Whose};

/// The same experiment for a shell: comments, then one command.
#[must_use]
pub fn unshare_command(plan: &Plan) -> String {
    let mut line = Line::default();
    line.namespaces(plan);
    for (_, step) in &plan.steps {
        line.step(plan, step);
    }
    line.finish()
}

/// The parts of the command, in its order, and what it cannot express.
#[derive(Default)]
struct Line {
    comments: Vec<String>,
    nsenter: Vec<String>,
    switches: Vec<String>,
    setgroups: Option<String>,
    /// What a shell does inside, before the program.
    commands: Vec<String>,
    /// setpriv(1)'s, instead of `--setuid` and `--setgid`: those come before the shell's commands, which then lack the
    /// privileges, and drop the supplementary groups.
    setpriv: Vec<String>,
    /// The program, behind others that set something and execute the next.
    program: Vec<String>,
}

impl Line {
    fn comment(&mut self, text: impl AsRef<str>) {
        self.comments.push(format!("# {}", one_line(text.as_ref())));
    }

    fn switch(&mut self, text: impl Into<String>) {
        self.switches.push(text.into());
    }

    fn has(&self, start: &str) -> bool {
        self.switches.iter().any(|switch| switch.starts_with(start))
    }

    fn namespaces(&mut self, plan: &Plan) {
        let flags = plan.options.flags;
        self.switches.extend(flags.rows().map(|(_, row)| row.unshare.to_owned()));
        // Only a child of unshare(1) is PID 1; and before Linux 6.2, only a child is in the new time namespace.
        if flags.contains(NamespaceSet::PID) || flags.contains(NamespaceSet::TIME) {
            self.switch("--fork");
        }
        let propagation = plan.options.propagation.unwrap_or(Propagation::Private);
        if propagation != Propagation::Private {
            self.switch(format!("--propagation={}", propagation.name()));
        }
    }

    fn step(&mut self, plan: &Plan, step: &Step) {
        match step {
            Step::Setns(joins) => self.join(joins),
            Step::EnterTime(join) => self.join(slice::from_ref(join)),
            Step::WriteMap(MapFile::Setgroups, _, word) => self.setgroups = Some(word.clone()),
            Step::WriteMap(file, whose, text) => {
                let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
                self.map(plan, *file, *whose, &words);
            }
            Step::MapHelper(file, _, words) => {
                let words: Vec<_> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
                self.map(plan, *file, Whose::Childs, &words);
            }
            Step::TimensOffsets(text) => text.lines().for_each(|line| self.offset(line)),
            Step::MountProc(path) if path.to_bytes() == b"/proc" => self.switch("--mount-proc"),
            Step::MountProc(path) => self.switch(format!("--mount-proc={}", quote(path.to_bytes()))),
            Step::Loopback => self.commands.push("ip link set lo up".to_owned()),
            Step::Sethostname(name) => self.hostname(name),
            Step::Setdomainname(name) => self.commands.push(format!("domainname -- {}", quote(name))),
            // --wd would come before --mount-proc.
            Step::Chdir(path) if plan.options.mount_proc.is_some() => {
                self.program.extend(["env".to_owned(), format!("--chdir={}", quote(path.to_bytes()))]);
            }
            Step::Chdir(path) => self.switch(format!("--wd={}", quote(path.to_bytes()))),
            Step::Umask(mask) => self.commands.push(format!("umask {mask:04o}")),
            Step::RestoreSignals => self.comment(
                "restore_signals: the program ignores the signals that this shell ignores; usually there are none",
            ),
            // It forks where it must; then let it wait.
            Step::Setsid => self.program.extend(["setsid".to_owned(), "--wait".to_owned()]),
            Step::Setpgid(group) => self.comment(format!("process_group={group}: left out; there is no switch for it")),
            Step::ExtraGroups(groups) if groups.is_empty() => self.setpriv.push("--clear-groups".to_owned()),
            Step::ExtraGroups(groups) => {
                let groups: Vec<_> = groups.iter().map(u32::to_string).collect();
                self.setpriv.push(format!("--groups={}", groups.join(",")));
            }
            Step::Setgid(gid) => self.setpriv.push(format!("--regid={gid}")),
            Step::Setuid(uid) => self.setpriv.push(format!("--reuid={uid}")),
            Step::ParentDeathSignal(signal) => self.kill_child(*signal),
            Step::CloseFds(_) => {
                self.comment("close_fds: the program gets what this shell has open; usually there is nothing above 2");
            }
            Step::PassFds(fds) => {
                self.comment(format!("pass_fds={fds:?}: open them on this line, as in {}<FILE", fds[0]));
            }
            Step::Execve(exec) => self.execve(plan, exec),
            Step::ExecInit(_) => self.comment("init: left out; the program is PID 1, or there is none"),
            // `namespaces` has said the first four, or unshare(1) does them by itself; the others are how nslab goes
            // about it, without effect on the program.
            Step::Clone(_)
            | Step::Unshare(_)
            | Step::Propagation(..)
            | Step::MakePrivate(_)
            | Step::OpenNs(_)
            | Step::ClearHandlers
            | Step::AwaitMaps
            | Step::UnshareFiles
            | Step::Stdio
            | Step::SendPidfd
            | Step::KeepCapabilities
            | Step::Keep(..)
            | Step::NoteNamespaces(..)
            | Step::SignalMask => {}
        }
    }

    fn join(&mut self, joins: &[Join]) {
        for joined in joined(joins) {
            match joined.file {
                Some((row, path)) => {
                    if joined.text.as_bytes() != path {
                        self.comment(format!("join: {} is {}", String::from_utf8_lossy(&path), joined.text));
                    }
                    self.nsenter.push(format!("{}={}", row.unshare, quote(&path)));
                }
                None => self.comment(format!("join: left out {}, for which there is no file", joined.text)),
            }
        }
        if self.nsenter.iter().any(|switch| switch.starts_with("--user")) {
            self.nsenter.push("--preserve-credentials".to_owned());
        }
    }

    /// `words` are inside, outside, count, in turn.
    fn map(&mut self, plan: &Plan, file: MapFile, whose: Whose, words: &[String]) {
        let o = &plan.options;
        let one_id = o.map_root_user || o.map_current_user;
        if one_id && whose == Whose::Own && o.map_users.is_none() && o.map_groups.is_none() {
            let switch = if o.map_root_user { "--map-root-user" } else { "--map-current-user" };
            if !self.has(switch) {
                self.switch(switch);
            }
            return;
        }
        let kind = if file == MapFile::Users { "user" } else { "group" };
        // unshare(1) writes a lone --map-group itself, and denies setgroups(2) for it.
        let denied = self.setgroups.as_deref() == Some("deny");
        let own = whose == Whose::Own || (one_id && (file == MapFile::Users || words.len() > 3 || denied));
        let (first, others) = words.split_at(if own { 3 } else { 0 });
        self.switches.extend(first.chunks_exact(3).map(|range| format!("--map-{kind}={}", range[0])));
        let several =
            others.chunks_exact(3).map(|range| format!("--map-{kind}s={},{},{}", range[1], range[0], range[2]));
        self.switches.extend(several);
        if !others.is_empty() {
            self.comment(format!(
                "--map-{kind}s: OUTER,INNER,COUNT, which all versions read; util-linux before 2.40 takes one such range, \
                 and has new{}idmap(1) write it also for root",
                &kind[..1]
            ));
        }
    }

    /// `line` is a clock, seconds and nanoseconds.
    fn offset(&mut self, line: &str) {
        let words: Vec<_> = line.split_whitespace().collect();
        if let [clock, seconds, nanoseconds] = words[..] {
            self.switch(format!("--{clock}={seconds}"));
            if nanoseconds != "0" {
                self.comment(format!("--{clock} takes whole seconds: {nanoseconds} ns are left out"));
            }
        }
    }

    fn hostname(&mut self, name: &[u8]) {
        let plain = |part: &[u8]| {
            let dash_at_end = part.starts_with(b"-") || part.ends_with(b"-");
            !part.is_empty() && !dash_at_end && part.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        };
        if name.split(|byte| *byte == b'.').all(plain) {
            self.commands.push(format!("hostname -- {}", quote(name)));
        } else if name.contains(&b'\n') {
            self.comment("hostname: left out; hostname(1) refuses this name, and the file takes one line of it");
        } else {
            self.comment("hostname(1) refuses this name; the file takes it, but from the root of no user namespace");
            self.commands.push(format!("printf '%s\\n' {} >/proc/sys/kernel/hostname", quote(name)));
        }
    }

    fn kill_child(&mut self, signal: i32) {
        let name = match Signal::try_from(signal) {
            Ok(signal) => signal.as_str().to_owned(),
            Err(_) => format!("SIGRTMIN+{}", signal - 34),
        };
        self.comment("kill_child: the signal comes at the end of unshare(1), which waits in between");
        self.switch(format!("--kill-child={name}"));
        if !self.setpriv.is_empty() {
            // The kernel forgets it at a change of ids.
            self.setpriv.push(format!("--pdeathsig={}", name.trim_start_matches("SIG")));
        }
    }

    /// Who is not root in a new user namespace has no capabilities once he executes something: here a shell.
    fn keep_capabilities(&mut self, plan: &Plan) {
        let is_root = plan.options.map_root_user || !plan.options.flags.contains(NamespaceSet::USER);
        let privileged = self.commands.iter().any(|command| !command.starts_with("umask "));
        if !is_root && (privileged || !self.setpriv.is_empty()) {
            self.switch("--keep-caps");
            self.setpriv.extend(["--inh-caps=-all", "--ambient-caps=-all"].map(str::to_owned));
        }
    }

    fn execve(&mut self, plan: &Plan, exec: &Exec) {
        self.keep_capabilities(plan);
        if !self.setpriv.is_empty() {
            self.program.push("setpriv".to_owned());
            if !self.setpriv.iter().any(|switch| switch.ends_with("groups") || switch.starts_with("--groups")) {
                self.program.push("--keep-groups".to_owned());
            }
            self.program.append(&mut self.setpriv);
        }
        let executable = &plan.options.executable;
        if let Some(variables) = own_environment(exec) {
            self.program.extend(["env".to_owned(), "-i".to_owned()]);
            self.program.extend(variables.iter().map(|variable| quote(variable.to_bytes())));
            if executable.to_bytes().contains(&b'=') {
                self.comment("env: env(1) takes the program's name for a variable, because of the = in it");
            }
        }
        let argv = exec.argv.strings();
        if argv.first() != Some(executable) {
            let name = argv.first().map(CString::as_c_str).unwrap_or_default();
            self.comment(format!("argv[0] is {name:?} in the plan; here it is the program's own name"));
        }
        self.program.push(quote(executable.to_bytes()));
        self.program.extend(argv.iter().skip(1).map(|argument| quote(argument.to_bytes())));
    }

    fn finish(mut self) -> String {
        match self.setgroups.take().as_deref() {
            Some("deny") if self.has("--map-groups=") => self.comment(
                "setgroups=deny: left out; unshare(1) writes it after the group map, where the kernel refuses it",
            ),
            // unshare(1) does so by itself.
            Some("deny") if self.has("--map-group=") || self.has("--map-root") || self.has("--map-current") => {}
            Some(word) => self.switch(format!("--setgroups={word}")),
            None => {}
        }
        let mut words = Vec::new();
        if !self.nsenter.is_empty() {
            words.push("nsenter".to_owned());
            words.append(&mut self.nsenter);
            words.push("--".to_owned());
        }
        words.push("unshare".to_owned());
        words.append(&mut self.switches);
        words.push("--".to_owned());
        if !self.commands.is_empty() {
            let script = format!("{} && exec \"$@\"", self.commands.join(" && "));
            words.extend(["sh".to_owned(), "-c".to_owned(), quote(script.as_bytes()), "sh".to_owned()]);
        }
        words.append(&mut self.program);
        self.comments.push(words.join(" "));
        self.comments.join("\n")
    }
}

/// A word as any POSIX shell reads it back, whatever its bytes.
pub(super) fn quote(word: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(byte);
    if !word.is_empty() && word.iter().all(is_plain) {
        return String::from_utf8_lossy(word).into_owned();
    }
    let single =
        |text: &str| if text.is_empty() { String::new() } else { format!("'{}'", text.replace('\'', r"'\''")) };
    let print =
        |bytes: &[u8]| if bytes.is_empty() { String::new() } else { format!("\"$(printf '{}')\"", octal(bytes)) };
    let quoted: String = word.utf8_chunks().flat_map(|chunk| [single(chunk.valid()), print(chunk.invalid())]).collect();
    if quoted.is_empty() { "''".to_owned() } else { quoted }
}
