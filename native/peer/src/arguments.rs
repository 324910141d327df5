//! Command lines of the form `NAME... --key value --flag`.

use std::collections::HashMap;
use std::str::FromStr;

use crate::Failure;

/// A parsed command line. What nobody asked for is an error in [`Arguments::finish`]: a misspelt
/// option must not turn into a measurement of something else.
#[derive(Debug, Default)]
pub struct Arguments {
    names: Vec<String>,
    values: HashMap<String, String>,
}

impl Arguments {
    /// Parses `words` (without the program's name). `flags` are the options that take no value.
    ///
    /// # Errors
    /// An option without its value, or one given twice.
    pub fn parse(words: impl IntoIterator<Item = String>, flags: &[&str]) -> Result<Self, Failure> {
        let mut parsed = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let Some(key) = word.strip_prefix("--") else {
                parsed.names.push(word);
                continue;
            };
            let value = if flags.contains(&key) {
                String::new()
            } else {
                words.next().ok_or_else(|| format!("--{key} needs a value"))?
            };
            if parsed.values.insert(key.to_owned(), value).is_some() {
                return Err(format!("--{key} is given twice").into());
            }
        }
        parsed.names.reverse();
        Ok(parsed)
    }

    /// The next word that is not an option.
    pub fn name(&mut self) -> Option<String> {
        self.names.pop()
    }

    /// Whether a flag was given.
    pub fn flag(&mut self, key: &str) -> bool {
        self.values.remove(key).is_some()
    }

    /// An option's value, when it was given.
    ///
    /// # Errors
    /// The value cannot be read as a `T`.
    pub fn optional<T: FromStr>(&mut self, key: &str) -> Result<Option<T>, Failure> {
        match self.values.remove(key) {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(format!("--{key} does not take {text:?}").into()),
            },
        }
    }

    /// An option's value, or `default`.
    ///
    /// # Errors
    /// As [`Arguments::optional`].
    pub fn value<T: FromStr>(&mut self, key: &str, default: T) -> Result<T, Failure> {
        Ok(self.optional(key)?.unwrap_or(default))
    }

    /// Ends the parsing.
    ///
    /// # Errors
    /// Something on the command line was not understood.
    pub fn finish(self) -> Result<(), Failure> {
        match self.names.first().or(self.values.keys().next()) {
            None => Ok(()),
            Some(word) => Err(format!("unknown argument: {word}").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, Failure> {
        Arguments::parse(line.split_whitespace().map(str::to_owned), &["h2c"])
    }

    #[test]
    fn names_values_and_flags() -> Result<(), Failure> {
        let mut arguments = parse("open --h2c --port 8443 now")?;
        assert_eq!(arguments.name().as_deref(), Some("open"));
        assert_eq!(arguments.name().as_deref(), Some("now"));
        assert!(arguments.flag("h2c"));
        assert_eq!(arguments.value("port", 0_u16)?, 8443);
        assert_eq!(arguments.value("threads", 1_usize)?, 1);
        arguments.finish()
    }

    #[test]
    fn mistakes_are_told() -> Result<(), Failure> {
        assert!(parse("--port").is_err());
        assert!(parse("--port 1 --port 2").is_err());
        assert!(parse("--port many")?.value("port", 0_u16).is_err());
        assert!(parse("--prot 1")?.finish().is_err());
        Ok(())
    }
}
