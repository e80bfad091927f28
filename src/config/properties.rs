use super::Config;
use crate::properties::{assert_message, check_one_in, text_near};

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("paas.toml");
    std::fs::write(&path, text).unwrap();
    let environment = environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Config::load(&path, true, environment).map_err(|error| error.to_string())
}

#[test]
fn a_configuration_is_read_or_refused_in_one_line() {
    let samples = [
        "hostname = \"x.example\"\n[ssh]\nlisten = \"127.0.0.1:1\"\nidle_seconds = 60\n[network]\nallow = [\"10.1.0.0/16:443\"]\n",
        "data_dir = '/x'\nuser_id = 7\n[router]\nlisten = ['::1']\nfirst_port = 2000\n[instances]\ncpu_millis = 10\n[build]\ncpus = 1\n",
        "[network]\nrange = \"10.9.0.0/16\"\ninstances = \"internet\"\n[tasks]\nkeep = 1\n[outbound]\nca_bundle = '/x.pem'\n",
    ];
    check_one_in(8, text_near(&samples), |text| match load(&text, &[]) {
        Ok(config) => assert_eq!(load(&toml::to_string(&config).unwrap(), &[]), Ok(config)),
        Err(error) => assert_message(&error),
    });
}

#[test]
fn a_variable_is_read_or_refused_in_one_line() {
    let keys = [
        "PAAS_SSH_LISTEN",
        "PAAS_BUILD_CPUS",
        "PAAS_NETWORK_ALLOW",
        "PAAS_TASKS_KEEP",
        "PAAS_HOSTNAME",
        "PAAS_NETWORK_RANGE",
    ];
    let values = ["127.0.0.1:7", "3", "[\"10.0.0.1:80\"]", "true", "10.9.0.0/16"];
    check_one_in(8, (text_near(&keys), text_near(&values)), |(key, value)| {
        if let Err(error) = load("", &[(&key, &value)]) {
            assert_message(&error);
        }
    });
}
