//! The same experiment in other words: an unshare(1) line and a C program.

use crate::plan::Plan;

pub fn unshare_command(_plan: &Plan) -> String {
    String::new()
}
pub fn c_source(_plan: &Plan) -> String {
    String::new()
}
