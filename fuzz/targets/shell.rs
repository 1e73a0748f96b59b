//! A line as a POSIX shell splits it: only what such lines may contain; anything else is refused.

/// The comments, and the command.
pub fn split(text: &str) -> (Vec<&str>, &str) {
    let mut comments = Vec::new();
    let mut rest = text;
    while rest.starts_with('#') {
        let (comment, after) = rest.split_once('\n').unwrap_or((rest, ""));
        comments.push(comment);
        rest = after;
    }
    (comments, rest)
}

/// The words of the command; `None` where a shell would do more than split it.
pub fn words(line: &str) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            ' ' => words.extend(word.take()),
            '\'' => {
                let (text, after) = rest.split_once('\'')?;
                word.get_or_insert_default().extend(text.bytes());
                rest = after;
            }
            '\\' => {
                rest = rest.strip_prefix('\'')?;
                word.get_or_insert_default().push(b'\'');
            }
            '"' => {
                let (octal, after) = rest.strip_prefix("$(printf '")?.split_once("')\"")?;
                for digits in octal.strip_prefix('\\')?.split('\\') {
                    word.get_or_insert_default().push(u8::from_str_radix(digits, 8).ok()?);
                }
                rest = after;
            }
            c if c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c) => {
                word.get_or_insert_default().push(u8::try_from(c).ok()?);
            }
            _ => return None,
        }
    }
    words.extend(word);
    Some(words)
}
