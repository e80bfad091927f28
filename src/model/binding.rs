//! Service bindings (servicebinding.io, "Workload Projection"): what an app needs to use a service, as a folder of files.

use std::collections::BTreeMap;

use base64::Engine as _;

use super::{BindingKey, BindingName, BindingProvider, BindingType};

/// The bindings of an app by name.
pub type Bindings = BTreeMap<BindingName, Binding>;

/// A binding.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Binding {
    /// Its type.
    #[serde(rename = "type")]
    pub binding_type: BindingType,
    /// Its provider, if it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<BindingProvider>,
    /// Values by key.
    pub values: BTreeMap<BindingKey, BindingValue>,
}

impl Binding {
    /// The files of its folder by name.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let provider = self.provider.iter().map(|provider| ("provider", provider.as_str().as_bytes()));
        let values = self.values.iter().map(|(key, value)| (key.as_str(), value.expose()));
        std::iter::once(("type", self.binding_type.as_str().as_bytes())).chain(provider).chain(values)
    }

    /// Size of the names and contents of its files, in bytes.
    pub fn bytes(&self) -> u64 {
        self.files().map(|(name, content)| (name.len() + content.len()) as u64).sum()
    }
}

/// A value of a binding: any bytes, which must not appear in logs. `Debug` hides them; as JSON they are base64-encoded.
#[derive(Clone, PartialEq, Eq)]
pub struct BindingValue(Vec<u8>);

impl BindingValue {
    /// Wraps a value.
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        Self(value.into())
    }

    /// Reads a value that is base64-encoded; `None` if it is not.
    pub fn decode(text: &str) -> Option<Self> {
        base64::engine::general_purpose::STANDARD.decode(text).ok().map(Self)
    }

    /// The value itself, for files in memory.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for BindingValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BindingValue(…)")
    }
}

impl serde::Serialize for BindingValue {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> serde::Deserialize<'de> for BindingValue {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not what serde would say of it: that repeats the value.
        let refused = || serde::de::Error::custom("the value of a binding is not base64-encoded");
        Self::decode(&String::deserialize(deserializer)?).ok_or_else(refused)
    }
}

impl schemars::JsonSchema for BindingValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "BindingValue".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string",
           "contentEncoding": "base64",
           "pattern": "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Binding {
        Binding {
            binding_type: "postgresql".parse().unwrap(),
            provider: None,
            values: BTreeMap::from([("password".parse().unwrap(), BindingValue::new([0, 0xff, b'\n']))]),
        }
    }

    #[test]
    fn any_bytes_are_stored_and_read_back_and_never_shown() {
        let stored = serde_json::to_string(&binding()).unwrap();
        assert_eq!(stored, r#"{"type":"postgresql","values":{"password":"AP8K"}}"#);
        assert_eq!(serde_json::from_str::<Binding>(&stored).unwrap(), binding());
        assert!(format!("{:?}", binding()).contains("BindingValue(…)"));
        let error = serde_json::from_str::<BindingValue>("\"hunter2!\"").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_binding_is_a_folder_of_files() {
        let with_provider = Binding { provider: Some("bitnami".parse().unwrap()), ..binding() };
        let files: Vec<_> = with_provider.files().collect();
        let expected: [(&str, &[u8]); 3] =
            [("type", b"postgresql"), ("provider", b"bitnami"), ("password", &[0, 0xff, b'\n'])];
        assert_eq!(files, expected);
        assert_eq!(with_provider.bytes(), 14 + 15 + 11);
    }

    #[test]
    fn names_are_those_of_files() {
        for good in ["db", "a.b-c", "0"] {
            assert!(good.parse::<BindingName>().is_ok(), "{good}");
        }
        for bad in ["", "..", ".db", "-db", "DB", "a/b", "a_b", &"a".repeat(254)] {
            assert!(bad.parse::<BindingName>().is_err(), "{bad}");
        }
        for good in ["password", "ca.pem", ".npmrc", "settings.xml", "A_B", "client-id"] {
            assert!(good.parse::<BindingKey>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "..data", "type", "provider", "a/b", "a b", "é", "a\n"] {
            assert!(bad.parse::<BindingKey>().is_err(), "{bad}");
        }
        assert!("ApplicationInsights".parse::<BindingType>().is_ok() && "a b".parse::<BindingType>().is_err());
    }
}
