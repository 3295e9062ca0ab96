//! A decoder that panics is a damaged file, not the end of a run.

use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

use super::Refusal;

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `decode`; a panic in it becomes [`Refusal::Panicked`] and prints nothing.
///
/// Decoders are other people's code on other people's bytes. What they leave half done is dropped here.
pub(super) fn catch<T>(decode: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_QUIET.get() {
                loud(info);
            }
        }));
    });
    let was_quiet = IS_QUIET.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(decode));
    IS_QUIET.set(was_quiet);
    result.unwrap_or(Err(Refusal::Panicked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_refusal() {
        assert_eq!(catch(|| Ok(3)), Ok(3));
        assert_eq!(
            catch(|| -> Result<(), _> { panic!("seen only if the hook fails") }),
            Err(Refusal::Panicked)
        );
        assert_eq!(catch(|| Err::<(), _>(Refusal::NoWindow)), Err(Refusal::NoWindow));
    }
}
