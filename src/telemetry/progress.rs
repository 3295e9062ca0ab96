//! One bar per stage, on a terminal only.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt;
use std::sync::LazyLock;

/// A bar on stderr that counts images: how many of `total`, how many in a second, how long still.
///
/// `done` of them were made before, and do not count for the rate. Where stderr is not a terminal the bar draws
/// nothing. Set it with `set_position`, end it with `finish_and_clear`.
pub fn bar(name: &'static str, done: u64, total: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{prefix:>12} {bar:30} {pos}/{len}  {rate}  {left}  {msg}")
            .expect("the template is well formed")
            .progress_chars("━╾─")
            .with_key("rate", |state: &ProgressState, out: &mut dyn fmt::Write| {
                let _ = write!(out, "{:.1} images/s", state.per_sec());
            })
            .with_key("left", |state: &ProgressState, out: &mut dyn fmt::Write| {
                let _ = match state.eta().as_secs() {
                    seconds @ 0..60 => write!(out, "{seconds} s left"),
                    seconds @ 60..3600 => write!(out, "{}:{:02} left", seconds / 60, seconds % 60),
                    seconds => {
                        write!(out, "{} h {:02} min left", seconds / 3600, seconds / 60 % 60)
                    }
                };
            });
    let bar = BARS.add(ProgressBar::new(total).with_position(done)).with_style(style);
    bar.set_prefix(name);
    bar.reset_eta();
    bar
}

/// From now on, no bar draws anything.
pub fn hide() {
    BARS.set_draw_target(ProgressDrawTarget::hidden());
}

/// Writes to the terminal while the bars stand aside.
pub(crate) fn beside_bars(write: impl FnOnce()) {
    BARS.suspend(write);
}

static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// `seconds` as people say it: `48 s`, `3 min 20 s`, `2 h 05 min`.
pub fn duration(seconds: f64) -> String {
    match seconds.max(0.0).round() as u64 {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_counts_from_where_it_resumed() {
        hide();
        let bar = bar("denoiser", 40, 100);
        assert_eq!((bar.position(), bar.length()), (40, Some(100)));
        bar.set_position(50);
        assert!(bar.is_hidden() && bar.position() == 50);
        bar.finish_and_clear();
    }
}
