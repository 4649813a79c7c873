//! What is left of a panic at an edge of the library.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a panic says. Its payload is any type, and dropping it may panic again.
pub(crate) fn describe(payload: Box<dyn Any + Send>) -> String {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "no message".to_owned(),
    };
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
    format!("internal error, a bug of the library: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    #[test]
    fn the_payload_is_dropped_once_and_may_panic_again() {
        struct PanicsAgain(Arc<AtomicU32>);
        impl Drop for PanicsAgain {
            fn drop(&mut self) {
                self.0.fetch_add(1, Relaxed);
                // Its payload panics when it is dropped, and so on.
                std::panic::panic_any(PanicsAgain(self.0.clone()));
            }
        }
        let drops = Arc::new(AtomicU32::new(0));
        let text = describe(Box::new(PanicsAgain(drops.clone())));
        assert_eq!(text, "internal error, a bug of the library: no message");
        assert_eq!(drops.load(Relaxed), 1);
        assert_eq!(describe(Box::new("words")), "internal error, a bug of the library: words");
        assert_eq!(describe(Box::new("words".to_owned())), "internal error, a bug of the library: words");
    }
}
