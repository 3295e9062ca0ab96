//! Text for a terminal: nothing in it can move the cursor, change colours or pose as another line.

/// `text` on one line: control characters, line ends among them, and those that turn the direction of writing are
/// escaped.
pub(crate) fn plain(text: &str) -> String {
    escaped(text, |_| false)
}

/// The same, with line ends and tabs as they are.
pub(crate) fn plain_lines(text: &str) -> String {
    escaped(text, |letter| matches!(letter, '\n' | '\t'))
}

fn escaped(text: &str, is_spared: impl Fn(char) -> bool) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_spared(letter) || !(letter.is_control() || turns_direction(letter)) {
            plain.push(letter);
        } else {
            plain.extend(letter.escape_default());
        }
    }
    plain
}

/// Unicode's bidirectional controls: <https://www.unicode.org/reports/tr9/>, section 2.
fn turns_direction(letter: char) -> bool {
    matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_terminal_is_shown_and_not_done() {
        let nasty = "a\u{1b}[2J\r\nb\tc\u{9b}31m\u{202e}d\u{7f} é";
        assert_eq!(plain(nasty), "a\\u{1b}[2J\\r\\nb\\tc\\u{9b}31m\\u{202e}d\\u{7f} é");
        assert_eq!(plain_lines("a\r\n\tb"), "a\\r\n\tb");
    }
}
