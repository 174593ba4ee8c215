//! Puts figures into a page, between two marks, so that nobody types one.

use std::fmt;

/// Where the figures begin.
const BEGIN: &str = "<!-- figures: begin, written by the tool -->";
/// Where they end.
const END: &str = "<!-- figures: end -->";

/// Why a page cannot take figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentError {
    /// It has not exactly one mark of each kind, in order.
    Marks,
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the page must hold one line `{BEGIN}` and after it one line `{END}`")
    }
}

impl std::error::Error for DocumentError {}

/// The page with these figures in place of those between its marks.
///
/// # Errors
/// If the marks are not there.
pub fn replace_figures(page: &str, figures: &str) -> Result<String, DocumentError> {
    let once = |mark: &str| page.matches(mark).count() == 1;
    if !once(BEGIN) || !once(END) {
        return Err(DocumentError::Marks);
    }
    let (before, rest) = page.split_once(BEGIN).ok_or(DocumentError::Marks)?;
    let (_, after) = rest.split_once(END).ok_or(DocumentError::Marks)?;
    Ok(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", figures.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced_and_again_gives_the_same() {
        let page = format!("# Title\n\n{BEGIN}\nold\n{END}\n\nrest\n");
        let written = replace_figures(&page, "\nnew\n").expect("it has marks");
        assert_eq!(written, format!("# Title\n\n{BEGIN}\n\nnew\n\n{END}\n\nrest\n"));
        assert_eq!(replace_figures(&written, "new").as_deref(), Ok(written.as_str()));
    }

    #[test]
    fn a_page_without_its_marks_is_left_alone() {
        for page in ["", BEGIN, END, &format!("{END}{BEGIN}"), &format!("{BEGIN}{BEGIN}{END}")] {
            assert_eq!(replace_figures(page, "new"), Err(DocumentError::Marks), "{page}");
        }
    }
}
