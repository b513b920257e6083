// SPDX-License-Identifier: Apache-2.0
//! matrix-sdk behind the line protocol of the client tests (../driver.py). One command at a time, as they come.

use std::{
    collections::HashMap,
    env, fs,
    io::{BufRead, stdin},
};

use matrix_sdk::{
    Client, Error, SessionMeta, SessionTokens,
    authentication::matrix::MatrixSession,
    config::RequestConfig,
    media::{MediaFormat, MediaRequestParameters, PreallocatedMxcUri},
    ruma::{
        DeviceId, OwnedMxcUri, UserId, api::client::media::create_content_async,
        events::room::MediaSource,
    },
};
use mime::Mime;
use serde_json::{Value, json};

type Answer = Result<Value, Box<dyn std::error::Error>>;

/// What `create` gave and `fill` takes: the SDK ties an upload to the object, not to the URI.
type Created = HashMap<String, PreallocatedMxcUri>;

fn text<'a>(command: &'a Value, key: &str) -> &'a str {
    command[key].as_str().unwrap_or_default()
}

async fn connect() -> Result<Client, Box<dyn std::error::Error>> {
    let mut retries = RequestConfig::new();
    if env::var_os("NO_RETRIES").is_some() {
        retries = retries.disable_retry();
    }
    let client = Client::builder()
        .homeserver_url(env::var("HOMESERVER")?)
        .request_config(retries)
        .build()
        .await?;
    let session = MatrixSession {
        meta: SessionMeta {
            user_id: UserId::parse(env::var("USER_ID")?)?,
            device_id: <&DeviceId>::from(env::var("DEVICE_ID")?.as_str()).to_owned(),
        },
        tokens: SessionTokens {
            access_token: env::var("ACCESS_TOKEN")?,
            refresh_token: None,
        },
    };
    client.restore_session(session).await?;
    Ok(client)
}

async fn obey(client: &Client, created: &mut Created, command: &Value) -> Answer {
    let media = client.media();
    let mxc = text(command, "mxc");
    Ok(match text(command, "do") {
        "upload" => {
            let content_type: Mime = text(command, "type").parse()?; // its uploads have no place for a file name
            let response = media
                .upload(&content_type, fs::read(text(command, "file"))?, None)
                .await?;
            json!({"mxc": response.content_uri})
        }
        "create" => {
            let preallocated = media.create_content_uri().await?;
            let mxc = preallocated.uri.to_string();
            created.insert(mxc.clone(), preallocated);
            json!({"mxc": mxc})
        }
        "fill" => {
            let content_type: Mime = text(command, "type").parse()?;
            let content = fs::read(text(command, "file"))?;
            if let Some(preallocated) = created.remove(mxc) {
                media
                    .upload_preallocated(preallocated, &content_type, content)
                    .await?;
            } else {
                // A second time: the object is gone with the first, so a layer below.
                let uri = OwnedMxcUri::from(mxc);
                let mut request = create_content_async::v3::Request::from_url(&uri, content)?;
                request.content_type = Some(content_type.to_string());
                client.send(request).await.map_err(Error::from)?;
            }
            json!({})
        }
        "download" => {
            let source = MediaSource::Plain(OwnedMxcUri::from(mxc));
            let request = MediaRequestParameters {
                source,
                format: MediaFormat::File,
            };
            fs::write(
                text(command, "to"),
                media.get_media_content(&request, false).await?,
            )?;
            json!({})
        }
        "config" => json!({"max": u64::from(client.load_or_fetch_max_upload_size().await?)}),
        _ => json!({"unsupported": true}),
    })
}

fn told(error: &(dyn std::error::Error + 'static)) -> Value {
    let api_error = error
        .downcast_ref::<Error>()
        .and_then(Error::as_client_api_error);
    json!({"error": {
        "status": api_error.map(|error| error.status_code.as_u16()),
        "errcode": api_error.and_then(|error| error.error_kind()).map(|kind| kind.errcode().to_string()),
        "message": format!("{error} / {error:?}"),
    }})
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = connect().await?;
    let mut created = Created::new();
    for line in stdin().lock().lines() {
        let answer = obey(&client, &mut created, &serde_json::from_str(&line?)?).await;
        println!("{}", answer.unwrap_or_else(|error| told(error.as_ref())));
    }
    Ok(())
}
