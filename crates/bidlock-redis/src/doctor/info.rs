use std::collections::HashMap;

/// What `INFO` says.
#[derive(Debug)]
pub(super) struct Info(HashMap<String, String>);

impl Info {
    pub(super) fn read(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }

    /// A value; empty where the server has none of that name.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub(super) fn number(&self, name: &str) -> u64 {
        self.get(name).parse().unwrap_or_default()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The databases in which anything is, and how many keys.
    pub(super) fn databases(&self) -> Vec<(u32, u64)> {
        let mut databases: Vec<(u32, u64)> = self
            .0
            .iter()
            .filter_map(|(name, value)| {
                let number = name.strip_prefix("db")?.parse().ok()?;
                let keys = value.strip_prefix("keys=")?.split(',').next()?.parse().ok()?;
                Some((number, keys))
            })
            .collect();
        databases.sort_unstable();
        databases
    }
}

/// A number of bytes, for people.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)];
    let unit = UNITS.into_iter().find(|(_, size)| number >= *size);
    match unit {
        Some((unit, size)) => {
            let tenths = u128::from(number) * 10 / u128::from(size);
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{number} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_read() {
        let info = Info::read(
            "# Server\r\nredis_version:7.0.15\r\nconfig_file:\r\n\r\n\
                               # Keyspace\r\ndb0:keys=12,expires=0,avg_ttl=0\r\ndb3:keys=1,x=1\r\n",
        );
        assert_eq!(info.get("redis_version"), "7.0.15");
        assert_eq!((info.get("config_file"), info.get("no")), ("", ""));
        assert!(info.has("config_file") && !info.has("no"));
        assert_eq!(info.databases(), [(0, 12), (3, 1)]);
        assert_eq!(info.number("redis_version"), 0);
    }

    #[test]
    fn bytes_are_told_in_one_unit() {
        for (number, text) in
            [(0, "0 bytes"), (1_023, "1023 bytes"), (1_024, "1.0 kB"), (104_857_600, "100.0 MB")]
        {
            assert_eq!(bytes(number), text);
        }
    }
}
