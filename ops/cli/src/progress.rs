//! Progress of long work, on standard error and only when a terminal is there.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the bar is drawn at least.
const TICK: Duration = Duration::from_millis(200);

/// A bar for work whose size may be unknown; hidden when standard error is not a terminal.
pub fn bar(what: &'static str, total: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
    let template = match total {
        Some(_) => "{prefix} {wide_bar} {human_pos}/{human_len} {per_sec} {msg}",
        None => "{prefix} {spinner} {human_pos} {per_sec} {msg}",
    };
    bar.set_style(ProgressStyle::with_template(template).expect("a fixed template"));
    bar.set_prefix(what);
    bar.enable_steady_tick(TICK);
    bar
}
