//! Scratch memory of a size that callers choose: an error where it cannot be had, never an abort.

use crate::error::{Error, Result};

/// Makes `memory` `len` elements long; new ones are `value`.
#[inline]
pub(crate) fn resize<T: Clone>(memory: &mut Vec<T>, len: usize, value: T) -> Result<()> {
    if memory.len() == len {
        return Ok(());
    }
    reserve(memory, len)?;
    memory.resize(len, value);
    Ok(())
}

/// Makes room for `len` elements in all.
pub(crate) fn reserve<T>(memory: &mut Vec<T>, len: usize) -> Result<()> {
    memory
        .try_reserve(len.saturating_sub(memory.len()))
        .map_err(|error| Error::OutOfMemory(format!("{len} elements of {} bytes: {error}", size_of::<T>())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_that_cannot_be_had_is_an_error() {
        let mut memory = vec![1u64, 2];
        assert!(matches!(resize(&mut memory, usize::MAX, 0), Err(Error::OutOfMemory(_))));
        resize(&mut memory, 5, 7).unwrap();
        assert_eq!(memory, [1, 2, 7, 7, 7]);
    }
}
