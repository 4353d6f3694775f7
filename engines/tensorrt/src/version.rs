//! Versions of TensorRT, and which of them this binding knows.

use std::fmt;

/// A version of the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 10 or 11, where we can do anything with it.
    pub major: u32,
    /// Minors of one major only append to its interface.
    pub minor: u32,
    /// Patch.
    pub patch: u32,
    /// Build number, 0 where the library does not say it.
    pub build: u32,
}

/// A major whose interface is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Major {
    Ten,
    Eleven,
}

/// The oldest versions whose headers have been counted.
pub(crate) const OLDEST: [Version; 2] = [Version::new(10, 3, 0), Version::new(11, 1, 0)];

impl Version {
    /// Without a build number.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch, build: 0 }
    }

    /// From `getInferLibVersion`: `major * 10000 + minor * 100 + patch` since 10; before, thousands.
    pub(crate) fn decode(number: i32) -> Self {
        let number = u32::try_from(number).unwrap_or(0);
        let thousand = if number < 10_000 { 1_000 } else { 10_000 };
        Self::new(number / thousand, number % thousand / 100, number % 100)
    }

    /// The number that `createInfer…_INTERNAL` wants to be shown.
    pub(crate) fn encode(self) -> i32 {
        i32::try_from(self.major * 10_000 + self.minor * 100 + self.patch).unwrap_or(i32::MAX)
    }

    /// The major, if this binding knows it.
    pub(crate) fn known(self) -> Option<Major> {
        match self.major {
            10 => Some(Major::Ten),
            11 => Some(Major::Eleven),
            _ => None,
        }
    }

    /// Whether the interface of this version has been counted.
    pub(crate) fn is_supported(self) -> bool {
        OLDEST.iter().any(|oldest| oldest.major == self.major && self >= *oldest)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if self.build > 0 { write!(f, ".{}", self.build) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_majors_are_read() {
        assert_eq!(Version::decode(101_601), Version::new(10, 16, 1));
        assert_eq!(Version::decode(110_400), Version::new(11, 4, 0));
        assert_eq!(Version::decode(8_601), Version::new(8, 6, 1));
        assert_eq!(Version::decode(80_601), Version::new(8, 6, 1));
        assert_eq!(Version::decode(-1), Version::new(0, 0, 0));
        assert_eq!(Version::new(10, 16, 1).encode(), 101_601);
    }

    #[test]
    fn only_counted_versions_are_supported() {
        let supported = [(10, 3, 0), (10, 99, 0), (11, 1, 0), (11, 4, 0)];
        assert!(supported.iter().all(|&(a, b, c)| Version::new(a, b, c).is_supported()));
        let refused = [(8, 6, 1), (9, 3, 0), (10, 2, 0), (11, 0, 0), (12, 0, 0), (0, 0, 0)];
        assert!(refused.iter().all(|&(a, b, c)| !Version::new(a, b, c).is_supported()));
    }
}
