//! Parameter Store of Systems Manager (awsJson1.1).

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::api::{ACCOUNT, ApiError, REGION};

/// Beginning of the names under which Parameter Store passes on what Secrets Manager keeps.
const SECRETS_MANAGER: &str = "/aws/reference/secretsmanager/";
/// The IAM action that a caller needs for such a name, beside that of Parameter Store.
pub const SECRET_ACTION: &str = "secretsmanager:GetSecretValue";

/// Characters that a parameter of the standard tier can hold; the advanced tier holds twice as many.
const STANDARD_LIMIT: usize = 4096;
const ADVANCED_LIMIT: usize = 8192;

/// All parameters of the pretended account.
#[derive(Debug, Default)]
pub struct ParameterStore {
    parameters: Mutex<BTreeMap<String, Parameter>>,
}

#[derive(Debug, Clone)]
struct Parameter {
    value: String,
    kind: Kind,
    version: u64,
    modified: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Kind {
    String,
    StringList,
    SecureString,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetParameter {
    name: String,
    #[serde(default)]
    with_decryption: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetParameters {
    names: Vec<String>,
    #[serde(default)]
    with_decryption: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutParameter {
    name: String,
    value: String,
    r#type: Option<Kind>,
    #[serde(default)]
    overwrite: bool,
    #[serde(default)]
    tier: Tier,
}

#[derive(Default, PartialEq, Deserialize)]
enum Tier {
    #[default]
    Standard,
    Advanced,
    #[serde(rename = "Intelligent-Tiering")]
    Intelligent,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DeleteParameter {
    name: String,
}

impl ParameterStore {
    /// Sets the parameter `name`, whatever it was before. `secure` makes it a `SecureString`. Under
    /// `/aws/reference/secretsmanager/` it is a secret of Secrets Manager.
    pub fn put(&self, name: &str, value: &str, secure: bool) {
        let kind = if secure { Kind::SecureString } else { Kind::String };
        store(&mut self.lock(), name, value.to_owned(), kind);
    }

    /// Answers `X-Amz-Target: AmazonSSM.<operation>`; body and answer are JSON.
    pub fn handle(&self, operation: &str, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let answer = match operation {
            "GetParameter" => self.get_parameter(&read(body)?)?,
            "GetParameters" => self.get_parameters(&read(body)?)?,
            "PutParameter" => self.put_parameter(read(body)?)?,
            "DeleteParameter" => self.delete_parameter(&read(body)?)?,
            unknown => return Err(ApiError::unknown_operation(unknown)),
        };
        Ok(answer.to_string().into_bytes())
    }

    fn get_parameter(&self, request: &GetParameter) -> Result<Value, ApiError> {
        check_name(&request.name)?;
        check_decryption(&request.name, request.with_decryption)?;
        let parameters = self.lock();
        let parameter = parameters.get(&request.name).ok_or_else(|| not_found(&request.name))?;
        Ok(json!({"Parameter": shown(&request.name, parameter, request.with_decryption)}))
    }

    fn get_parameters(&self, request: &GetParameters) -> Result<Value, ApiError> {
        if !(1..=10).contains(&request.names.len()) {
            return Err(ApiError::client("ValidationException", "Member must have between 1 and 10 names"));
        }
        request.names.iter().try_for_each(|name| {
            check_name(name)?;
            check_decryption(name, request.with_decryption)
        })?;
        let parameters = self.lock();
        let (known, unknown): (Vec<_>, Vec<_>) =
            request.names.iter().partition(|name| parameters.contains_key(*name));
        let shown: Vec<Value> = known
            .into_iter()
            .filter_map(|name| Some(shown(name, parameters.get(name)?, request.with_decryption)))
            .collect();
        Ok(json!({"Parameters": shown, "InvalidParameters": unknown}))
    }

    fn put_parameter(&self, request: PutParameter) -> Result<Value, ApiError> {
        check_new_name(&request.name)?;
        let tier = check_value(&request.value, &request.tier)?;
        let mut parameters = self.lock();
        let earlier = parameters.get(&request.name).map(|parameter| parameter.kind);
        if earlier.is_some() && !request.overwrite {
            return Err(ApiError::client(
                "ParameterAlreadyExists",
                "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.",
            ));
        }
        let kind = request.r#type.or(earlier).ok_or_else(|| {
            ApiError::client(
                "ValidationException",
                "A parameter type is required when you create a parameter.",
            )
        })?;
        let version = store(&mut parameters, &request.name, request.value, kind);
        Ok(json!({"Version": version, "Tier": tier}))
    }

    fn delete_parameter(&self, request: &DeleteParameter) -> Result<Value, ApiError> {
        self.lock().remove(&request.name).map(|_| json!({})).ok_or_else(|| not_found(&request.name))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Parameter>> {
        self.parameters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stores the next version of a parameter and returns its number.
fn store(parameters: &mut BTreeMap<String, Parameter>, name: &str, value: String, kind: Kind) -> u64 {
    let version = parameters.get(name).map_or(1, |earlier| earlier.version + 1);
    parameters.insert(name.to_owned(), Parameter { value, kind, version, modified: Timestamp::now() });
    version
}

fn shown(name: &str, parameter: &Parameter, decrypt: bool) -> Value {
    let separator = if name.starts_with('/') { "" } else { "/" };
    let value = match parameter.kind {
        Kind::SecureString if !decrypt => ciphertext(),
        Kind::String | Kind::StringList | Kind::SecureString => parameter.value.clone(),
    };
    let secret = name.strip_prefix(SECRETS_MANAGER);
    let arn = secret.map_or_else(
        || format!("arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{separator}{name}"),
        |secret| format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{secret}-a1B2c3"),
    );
    json!({
        "Name": name,
        "Type": format!("{:?}", parameter.kind),
        "Value": value,
        // Secrets have versions of another kind.
        "Version": if secret.is_some() { 0 } else { parameter.version },
        "LastModifiedDate": parameter.modified.as_millisecond() as f64 / 1000.0,
        "ARN": arn,
        "DataType": "text",
    })
}

/// Looks like what KMS gives, and tells as little.
fn ciphertext() -> String {
    format!("AQICAH{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::client("ValidationException", error.to_string()))
}

/// Of a parameter of its own, AWS sends this error without a message.
fn not_found(name: &str) -> ApiError {
    if name.starts_with(SECRETS_MANAGER) {
        return of_secrets_manager(ApiError::client(
            "ParameterNotFound",
            format!("Secret {name} not found."),
        ));
    }
    ApiError::client("ParameterNotFound", "")
}

/// The secrets of Secrets Manager that a call reads by reference, as ARNs.
pub fn secrets_read(body: &[u8]) -> Vec<String> {
    let Ok(request) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    let names = request["Names"].as_array().into_iter().flatten().chain([&request["Name"]]);
    let secrets = names.filter_map(|name| name.as_str()?.strip_prefix(SECRETS_MANAGER));
    secrets.map(|name| format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}-aB3dE6")).collect()
}

/// An error of Secrets Manager as Parameter Store hands it on.
pub fn of_secrets_manager(error: ApiError) -> ApiError {
    let message =
        format!("An error occurred ({}) when referencing Secrets Manager: {}", error.code, error.message);
    ApiError { message, ..error }
}

fn check_decryption(name: &str, with_decryption: bool) -> Result<(), ApiError> {
    if name.starts_with(SECRETS_MANAGER) && !with_decryption {
        let message = "WithDecryption flag must be True for retrieving a Secret Manager secret.";
        return Err(ApiError::client("ValidationException", message));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), ApiError> {
    // Names of secrets may have a few characters more.
    let marks = if name.starts_with(SECRETS_MANAGER) { ".-_/+=@" } else { ".-_/" };
    let allowed = |c: char| c.is_ascii_alphanumeric() || marks.contains(c);
    if (1..=2048).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    let message = "Parameter name: can't be prefixed with \"aws\" or \"ssm\" (case-insensitive). If formed as a path, \
                   it can consist of sub-paths divided by slash symbol; each sub-path can be formed as a mix of \
                   letters, numbers and the following 3 symbols .-_";
    Err(ApiError::client("ValidationException", message))
}

/// What AWS asks of a name beyond its characters when it takes a parameter.
fn check_new_name(name: &str) -> Result<(), ApiError> {
    check_name(name)?;
    let invalid = |message: &str| Err(ApiError::client("ValidationException", message));
    let levels: Vec<&str> = name.strip_prefix('/').unwrap_or(name).split('/').collect();
    if levels.len() > 1 && !name.starts_with('/') {
        return invalid("Parameter name must be a fully qualified name.");
    }
    if levels.iter().any(|level| level.is_empty()) {
        return invalid("Parameter name: must not have an empty level or end with a slash.");
    }
    let first = levels.first().map_or_else(String::new, |level| level.to_ascii_lowercase());
    if first.starts_with("aws") || first.starts_with("ssm") {
        return invalid("Parameter name: can't be prefixed with \"aws\" or \"ssm\" (case-insensitive).");
    }
    if levels.len() > 15 {
        return Err(ApiError::client(
            "HierarchyLevelLimitExceededException",
            "A hierarchy can have a maximum of 15 levels.",
        ));
    }
    Ok(())
}

/// The tier that takes this value.
fn check_value(value: &str, tier: &Tier) -> Result<&'static str, ApiError> {
    let length = value.chars().count();
    let invalid = |message: &str| Err(ApiError::client("ValidationException", message));
    match tier {
        _ if length == 0 => {
            invalid("Value '' at 'value' failed to satisfy constraint: Member must not be empty")
        }
        _ if length > ADVANCED_LIMIT => {
            invalid("Advanced tier parameters support a maximum parameter value of 8192 characters.")
        }
        Tier::Standard if length > STANDARD_LIMIT => invalid(
            "Standard tier parameters support a maximum parameter value of 4096 characters. To create a larger \
             parameter value, upgrade the parameter to use the advanced-parameter tier.",
        ),
        Tier::Intelligent if length <= STANDARD_LIMIT => Ok("Standard"),
        Tier::Standard => Ok("Standard"),
        Tier::Advanced | Tier::Intelligent => Ok("Advanced"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn call(store: &ParameterStore, operation: &str, body: &Value) -> Result<Value, String> {
        match store.handle(operation, body.to_string().as_bytes()) {
            Ok(answer) => Ok(serde_json::from_slice(&answer).unwrap()),
            Err(error) => Err(error.code),
        }
    }

    fn value(store: &ParameterStore, name: &str, decrypt: bool) -> Result<Value, String> {
        let answer = call(store, "GetParameter", &json!({"Name": name, "WithDecryption": decrypt}));
        Ok(answer?["Parameter"]["Value"].clone())
    }

    #[test]
    fn a_parameter_is_put_read_overwritten_and_deleted() {
        let store = ParameterStore::default();
        let put = |value: &str, overwrite: bool| {
            let request = json!({"Name": "/a/b", "Value": value, "Type": "String", "Overwrite": overwrite});
            call(&store, "PutParameter", &request)
        };
        assert_eq!(put("one", false), Ok(json!({"Version": 1, "Tier": "Standard"})));
        assert_eq!(put("two", false), Err("ParameterAlreadyExists".to_owned()));
        assert_eq!(put("two", true).unwrap()["Version"], 2);

        let answer = call(&store, "GetParameter", &json!({"Name": "/a/b"})).unwrap();
        let parameter = &answer["Parameter"];
        assert_eq!((&parameter["Value"], &parameter["Type"]), (&json!("two"), &json!("String")));
        assert_eq!(parameter["ARN"], "arn:aws:ssm:eu-west-1:123456789012:parameter/a/b");

        assert_eq!(call(&store, "DeleteParameter", &json!({"Name": "/a/b"})), Ok(json!({})));
        assert_eq!(value(&store, "/a/b", false), Err("ParameterNotFound".to_owned()));
        let again = call(&store, "DeleteParameter", &json!({"Name": "/a/b"}));
        assert_eq!(again, Err("ParameterNotFound".to_owned()));
    }

    #[test]
    fn a_secret_shows_only_when_decrypted() {
        let store = ParameterStore::default();
        store.put("/token", "hidden", true);
        assert_eq!(value(&store, "/token", true), Ok(json!("hidden")));
        assert!(!value(&store, "/token", false).unwrap().as_str().unwrap().contains("hidden"));
        call(&store, "PutParameter", &json!({"Name": "/token", "Value": "new", "Overwrite": true})).unwrap();
        assert_ne!(value(&store, "/token", false), Ok(json!("new")), "an overwritten secret stays one");
    }

    #[test]
    fn secrets_of_secrets_manager_are_passed_on() {
        let store = ParameterStore::default();
        let name = "/aws/reference/secretsmanager/shop/token+1";
        store.put(name, "hidden", true);
        let answer = call(&store, "GetParameter", &json!({"Name": name, "WithDecryption": true})).unwrap();
        let parameter = &answer["Parameter"];
        assert_eq!((&parameter["Value"], &parameter["Type"]), (&json!("hidden"), &json!("SecureString")));
        assert!(parameter["ARN"].as_str().unwrap().contains(":secret:shop/token+1-"), "{parameter}");
        assert_eq!(value(&store, name, false), Err("ValidationException".to_owned()));
        assert_eq!(
            value(&store, "/aws/reference/secretsmanager/nothing", true),
            Err("ParameterNotFound".to_owned())
        );
        let put = json!({"Name": name, "Value": "v", "Type": "SecureString", "Overwrite": true});
        assert_eq!(call(&store, "PutParameter", &put), Err("ValidationException".to_owned()));
        for (body, reads) in [
            (json!({"Name": name}), true),
            (json!({"Names": ["/a", name]}), true),
            (json!({"Name": "/a"}), false),
            (json!(null), false),
        ] {
            assert_eq!(!secrets_read(body.to_string().as_bytes()).is_empty(), reads, "{body}");
        }
    }

    #[test]
    fn several_parameters_at_once() {
        let store = ParameterStore::default();
        store.put("/a", "1", false);
        let answer = call(&store, "GetParameters", &json!({"Names": ["/a", "/b"]})).unwrap();
        assert_eq!(answer["Parameters"][0]["Value"], "1");
        assert_eq!(answer["InvalidParameters"], json!(["/b"]));
        let many = vec!["/a"; 11];
        assert_eq!(
            call(&store, "GetParameters", &json!({"Names": many})),
            Err("ValidationException".to_owned())
        );
    }

    #[test]
    fn names_and_values_are_checked_as_on_aws() {
        let long = "x".repeat(STANDARD_LIMIT + 1);
        let deep = "/a".repeat(16);
        for (name, value, tier, expected) in [
            ("plain", "v", "Standard", Ok("Standard")),
            (&"/a".repeat(15), "v", "Standard", Ok("Standard")),
            ("/a", &long, "Advanced", Ok("Advanced")),
            ("/a/intelligent", &long, "Intelligent-Tiering", Ok("Advanced")),
            (&deep, "v", "Standard", Err("HierarchyLevelLimitExceededException")),
            ("/a/long", &long, "Standard", Err("ValidationException")),
            ("/a/empty", "", "Standard", Err("ValidationException")),
            ("/shiftgate/my app/group", "v", "Standard", Err("ValidationException")),
            ("a/b", "v", "Standard", Err("ValidationException")),
            ("/a//b", "v", "Standard", Err("ValidationException")),
            ("/a/", "v", "Standard", Err("ValidationException")),
            ("/AWS/b", "v", "Standard", Err("ValidationException")),
            ("", "v", "Standard", Err("ValidationException")),
        ] {
            let request = json!({"Name": name, "Value": value, "Type": "String", "Tier": tier});
            let answer = call(&ParameterStore::default(), "PutParameter", &request);
            let tier = answer.as_ref().map(|answer| answer["Tier"].as_str().unwrap()).map_err(String::as_str);
            assert_eq!(tier, expected, "{name}");
        }
        let no_type = json!({"Name": "/a", "Value": "v"});
        let refused = call(&ParameterStore::default(), "PutParameter", &no_type);
        assert_eq!(refused, Err("ValidationException".to_owned()));
    }

    #[test]
    fn a_bad_name_is_no_missing_parameter() {
        let store = ParameterStore::default();
        assert_eq!(value(&store, "/shiftgate/my app/group", false), Err("ValidationException".to_owned()));
        assert_eq!(value(&store, "/aws/service/x", false), Err("ParameterNotFound".to_owned()));
    }

    proptest! {
        #[test]
        fn what_is_put_is_read(name in "/[b-r][A-Za-z0-9._-]{0,9}(/[A-Za-z0-9._-]{1,9}){0,3}", text in ".{1,99}") {
            let store = ParameterStore::default();
            let request = json!({"Name": name, "Value": text, "Type": "String"});
            call(&store, "PutParameter", &request).unwrap();
            prop_assert_eq!(value(&store, &name, false), Ok(json!(text)));
        }
    }
}
