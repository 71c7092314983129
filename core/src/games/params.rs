//! The parameter line: `key=value` pairs, comma separated, in the game's fixed order.

use super::GameError;
use crate::limits::GAME_PARAMS_MAX_BYTES;

/// The values of exactly these keys in exactly this order.
pub(super) fn values<'a, const N: usize>(
    line: &'a str,
    keys: [&str; N],
) -> Result<[&'a str; N], GameError> {
    if line.len() > GAME_PARAMS_MAX_BYTES {
        return Err(GameError::Params("the line is too long"));
    }
    let mut pairs = line.split(',');
    let mut found = [""; N];
    for (value, key) in found.iter_mut().zip(keys) {
        let pair = pairs.next().and_then(|pair| pair.split_once('='));
        *value = pair
            .filter(|(name, _)| *name == key)
            .map(|(_, value)| value)
            .ok_or(GameError::Params("expected the game's keys in their order"))?;
    }
    if pairs.next().is_some() {
        return Err(GameError::Params("unknown trailing key"));
    }
    Ok(found)
}

/// A decimal number without sign, space or leading zero, within the range.
pub(super) fn number(text: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, GameError> {
    let value: u64 = text.parse().ok().ok_or(GameError::Params("expected a number"))?;
    if value.to_string() != text {
        return Err(GameError::Params("a number has no sign and no leading zero"));
    }
    if !range.contains(&value) {
        return Err(GameError::Params("a number is out of its range"));
    }
    Ok(value)
}
