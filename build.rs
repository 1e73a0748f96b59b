//! Compiles the init: a program of its own, without libc, which the core embeds and executes from memory.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=init");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let program = PathBuf::from(variable("OUT_DIR")).join("init");
    let target = variable("TARGET");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--edition=2024", "--crate-name=nslab_init", "--crate-type=bin", "init/main.rs", "--target", &target]);
    rustc.args(["-Copt-level=s", "-Cpanic=abort", "-Ccodegen-units=1", "-Crelocation-model=static", "-Cstrip=symbols"]);
    rustc.args(["-Cdebug-assertions=off", "-o"]).arg(&program);
    let script = ["-nostdlib", "--build-id=none", "-z", "noseparate-code", "-z", "norelro", "-z", "noexecstack"];
    if variable("RUSTC_LINKER").is_empty() && variable("HOST") != target {
        // No C compiler of the host links for another machine; Rust's own linker does.
        rustc.args(["-Clinker=rust-lld", "-Clinker-flavor=ld.lld"]);
        rustc.args(script.map(|argument| format!("-Clink-arg={argument}")));
    } else {
        if !variable("RUSTC_LINKER").is_empty() {
            rustc.arg(format!("-Clinker={}", variable("RUSTC_LINKER")));
        }
        rustc.args(["-Clink-arg=-nostartfiles", "-Clink-arg=-static", "-Clink-arg=-nostdlib"]);
        rustc.args(script[1..].iter().map(|argument| format!("-Clink-arg=-Wl,{argument}")));
    }
    let status = rustc.status().expect("rustc can be run");
    assert!(status.success(), "the init does not compile for {target}: {rustc:?}");
}
