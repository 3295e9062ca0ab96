//! One bar per stage, on a terminal only.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt;
use std::sync::LazyLock;

/// A bar on stderr that counts images: how many of `total`, how many in a second, how long still.
///
/// `done` of them were made before, and do not count for the rate. Where stderr is not a terminal the bar draws
/// nothing. Set it with `set_position`, say what else is worth a look with `set_message`, end it with
/// `finish_and_clear`.
pub fn bar(name: &'static str, done: u64, total: u64) -> ProgressBar {
    let bar = BARS.add(ProgressBar::new(total).with_position(done)).with_style(style());
    bar.set_prefix(name);
    bar.reset_eta();
    bar
}

fn style() -> ProgressStyle {
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
                seconds => write!(out, "{} h {:02} min left", seconds / 3600, seconds / 60 % 60),
            };
        })
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
    use indicatif::TermLike;
    use std::io;
    use std::sync::{Arc, Mutex};

    /// A terminal that keeps what is written.
    #[derive(Debug, Clone, Default)]
    struct Screen(Arc<Mutex<String>>);

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            120
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_bar_shows_its_message() {
        let screen = Screen::default();
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        let bar = ProgressBar::with_draw_target(Some(100), target).with_style(style());
        bar.set_prefix("denoiser");
        bar.set_message("loss 0.1234");
        bar.tick();
        let shown = screen.0.lock().unwrap();
        assert!(shown.contains("denoiser") && shown.contains("loss 0.1234"), "{shown}");
    }

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
