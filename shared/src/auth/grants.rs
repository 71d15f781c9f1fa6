//! Which channels a token grants: exact names, and prefixes that end in `*`.

use crate::channel::{Channel, ChannelError};

/// Names and prefixes. The cluster's own channels (`sse.`) are in none of them, whatever they say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    names: Vec<Channel>,
    /// Without the `*`; an empty one is everything.
    prefixes: Vec<String>,
}

impl Grants {
    /// Adds `name`, or with a `*` at its end all channels that begin so.
    ///
    /// # Errors
    /// That no channel is called so, or begins so.
    pub fn add(&mut self, name: &str) -> Result<(), ChannelError> {
        let Some(prefix) = name.strip_suffix('*') else {
            let name = Channel::parse(name)?;
            if !self.names.contains(&name) {
                self.names.push(name);
            }
            return Ok(());
        };
        if !prefix.is_empty() {
            Channel::parse(prefix)?;
        }
        self.prefixes.push(prefix.to_owned());
        Ok(())
    }

    /// Adds a user's own channel, once, whether it was named or not.
    pub(super) fn add_own(&mut self, channel: &Channel) {
        self.names.retain(|name| name != channel);
        self.names.insert(0, channel.clone());
    }

    /// Each of them, as [`add`](Self::add) takes it.
    pub(super) fn iter(&self) -> impl Iterator<Item = String> {
        let names = self.names.iter().map(|name| name.as_str().to_owned());
        names.chain(self.prefixes.iter().map(|prefix| format!("{prefix}*")))
    }

    /// Whether nothing is granted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.prefixes.is_empty()
    }

    /// Whether `channel` is granted.
    #[must_use]
    pub fn has(&self, channel: &Channel) -> bool {
        !channel.is_reserved() && (self.names.contains(channel) || self.begins(channel.as_str()))
    }

    /// Whether every channel that begins with `prefix` is granted, where none of them is the cluster's own.
    #[must_use]
    pub fn has_all(&self, prefix: &str) -> bool {
        self.begins(prefix)
    }

    fn begins(&self, name: &str) -> bool {
        self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grants(names: &[&str]) -> Grants {
        let mut grants = Grants::default();
        names.iter().for_each(|name| grants.add(name).unwrap());
        grants
    }

    fn has(names: &[&str], channel: &str) -> bool {
        grants(names).has(&Channel::parse(channel).unwrap())
    }

    #[test]
    fn names_and_prefixes() {
        assert!(has(&["a", "chat:*"], "a") && has(&["a", "chat:*"], "chat:7") && has(&["chat:*"], "chat:"));
        assert!(!has(&["a", "chat:*"], "ab") && !has(&["a"], "A") && !has(&["chat:*"], "chat") && !has(&[], "a"));
        assert!(has(&["*"], "a") && has(&["*"], "한글"));
        for reserved in ["sse.control", "sse.node:1"] {
            assert!(!has(&["*", "s*", "sse.*", "sse.control", "sse.node:1"], reserved));
        }
        assert!(has(&["*"], "sse"), "the dot makes it the cluster's");
    }

    #[test]
    fn what_is_no_grant() {
        for wrong in ["", "a b", "a*b", "**", "a**", "*a", "{a}", "a\n*", &"x".repeat(257), &"x".repeat(258)] {
            assert!(Grants::default().add(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_family() {
        assert!(
            grants(&["chat:*"]).has_all("chat:") && grants(&["ch*"]).has_all("chat:") && grants(&["*"]).has_all("x")
        );
        assert!(!grants(&["chat:7*", "chat:", "x"]).has_all("chat:"));
    }

    proptest! {
        /// Whoever has all of a family has each of it.
        #[test]
        fn all_of_a_family_is_each(names in proptest::collection::vec("[ab]{1,3}\\*?", 0..5), prefix in "[ab]{1,3}", rest in "[ab]{0,3}") {
            let grants = grants(&names.iter().map(String::as_str).collect::<Vec<_>>());
            let channel = Channel::parse(&format!("{prefix}{rest}")).unwrap();
            prop_assert!(!grants.has_all(&prefix) || grants.has(&channel));
            let plain = names.iter().any(|name| match name.strip_suffix('*') {
                Some(prefix) => channel.as_str().starts_with(prefix),
                None => name == channel.as_str(),
            });
            prop_assert_eq!(grants.has(&channel), plain);
        }
    }
}
