//! The Classworks KV API: who may do what, and what each path answers. The texts are those of the real server, which clients show.

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response};
use serde_json::{Value, json};

use super::store::{KvStore, time};
use super::{KV_READ_ONLY_TOKEN, KV_TOKEN};
use crate::executions::Executions;
use crate::http_server::Reply;

/// Keys of one page when the request does not say it: the API's own value.
const PAGE_KEYS: usize = 100;

/// A request on its way through the API.
pub(super) struct Call<'a> {
    pub(super) head: &'a Parts,
    pub(super) body: &'a Bytes,
    pub(super) store: &'a KvStore,
    /// The writes of this one server.
    pub(super) writes: &'a Executions,
}

impl Call<'_> {
    pub(super) fn answer(&self) -> Reply {
        let path = self.head.uri.path();
        match (&self.head.method, path) {
            (&Method::GET | &Method::HEAD, "/") => {
                Reply::text(200, "<!doctype html><title>Classworks KV</title>").header("content-type", "text/html")
            }
            (&Method::GET, "/check") => {
                Reply::json(200, &json!({"status": "success", "message": "Classworks KV is running", "time": 1}))
            }
            _ => match path.strip_prefix("/kv/") {
                Some(rest) => self.authorised(rest),
                None => self.unknown_path(),
            },
        }
    }

    fn authorised(&self, rest: &str) -> Reply {
        let Some(token) = self.token() else { return error(401, "需要提供有效的token") };
        let read_only = token == KV_READ_ONLY_TOKEN;
        if !read_only && token != KV_TOKEN {
            return error(401, "无效的token");
        }
        let method = &self.head.method;
        match (method, rest) {
            (&Method::GET, "") => self.list(),
            (&Method::GET, "_info") => Reply::json(200, &json!({"device": device(), "hasAccount": false})),
            (&Method::GET, "_token") => Reply::json(200, &token_info(&token, read_only)),
            (&Method::GET, "_keys") => self.page_of_keys(),
            (&Method::POST | &Method::DELETE, _) if read_only => error(403, "当前token为只读模式,无法修改数据"),
            (&Method::POST, "_batchimport") => self.import(),
            _ => match rest.split_once('/') {
                None => self.value(&decoded(rest)),
                Some((key, "metadata")) if method == Method::GET => {
                    let key = decoded(key);
                    self.store.metadata(&key).map_or_else(|| no_record(&key), |metadata| Reply::json(200, &metadata))
                }
                Some(_) => self.unknown_path(),
            },
        }
    }

    fn value(&self, key: &str) -> Reply {
        match self.head.method {
            Method::GET => self.store.value(key).map_or_else(|| no_record(key), |value| Reply::json(200, &value)),
            Method::POST => {
                let Ok(value) = self.json() else { return error(400, "请求体不是有效的JSON") };
                // The server keeps nothing that is falsy in JavaScript's eyes, but for numbers and booleans.
                let value = if value.is_null() || value == "" { json!({}) } else { value };
                let (created, updated) = self.store.upsert(key, value);
                self.writes.add(key);
                let device = KvStore::DEVICE;
                Reply::json(200, &json!({"deviceId": device, "key": key, "created": created, "updatedAt": updated}))
            }
            Method::DELETE => {
                self.writes.add(key);
                match self.store.delete(key) {
                    true => Reply::Answer(Response::builder().status(204).body(Bytes::new()).expect("204 is a status")),
                    false => no_record(key),
                }
            }
            _ => self.unknown_path(),
        }
    }

    fn import(&self) -> Reply {
        let Ok(Value::Object(values)) = self.json() else { return error(400, "请提供有效的JSON数据") };
        if values.is_empty() {
            return error(400, "请提供有效的JSON数据");
        }
        let results = values.iter().map(|(key, value)| {
            let (is_new, _) = self.store.upsert(key, value.clone());
            self.writes.add(key);
            json!({"key": key, "isNew": is_new})
        });
        let results: Vec<Value> = results.collect();
        let summary = json!({"total": results.len(), "successful": results.len(), "failed": 0});
        let data = json!({"deviceId": KvStore::DEVICE, "summary": summary, "results": results});
        Reply::json(200, &json!({"code": 200, "message": "批量导入成功", "data": data}))
    }

    fn list(&self) -> Reply {
        let (keys, _, _) = self.page();
        let items: Vec<Value> = keys
            .iter()
            .map(|key| json!({"deviceId": KvStore::DEVICE, "key": key, "metadata": self.store.metadata(key)}))
            .collect();
        Reply::json(200, &json!({"items": items, "total_rows": self.store.keys().len()}))
    }

    fn page_of_keys(&self) -> Reply {
        let (keys, limit, skip) = self.page();
        let count = keys.len();
        // The real server gives the length of the page as the total too, which its clients have to live with.
        let page = json!({"limit": limit, "skip": skip, "count": count});
        Reply::json(200, &json!({"keys": keys, "total_rows": count, "current_page": page}))
    }

    fn page(&self) -> (Vec<String>, usize, usize) {
        let number = |name: &str| self.query(name).and_then(|value| value.parse::<usize>().ok());
        let (limit, skip) = (number("limit").unwrap_or(PAGE_KEYS), number("skip").unwrap_or_default());
        let mut keys = self.store.keys();
        if self.query("sortDir").as_deref() == Some("desc") {
            keys.reverse();
        }
        (keys.into_iter().skip(skip).take(limit).collect(), limit, skip)
    }

    /// The token, from the places where the real server looks for it, in its order.
    fn token(&self) -> Option<String> {
        let header = |name: &str| self.head.headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let named = bearer.or_else(|| header("x-app-token")).map(str::to_owned);
        named.or_else(|| self.query("token")).or_else(|| self.query("apptoken")).or_else(|| {
            let body: Value = serde_json::from_slice(self.body).ok()?;
            body.get("token").or_else(|| body.get("apptoken"))?.as_str().map(str::to_owned)
        })
    }

    fn query(&self, name: &str) -> Option<String> {
        let pairs = self.head.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| decoded(value)).next()
    }

    /// The body as JSON; none is null.
    fn json(&self) -> serde_json::Result<Value> {
        if self.body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(self.body) }
    }

    fn unknown_path(&self) -> Reply {
        error(404, &format!("找不到路径: {}", self.head.uri.path()))
    }
}

/// An error in the API's shape.
pub(super) fn error(status: u16, message: &str) -> Reply {
    Reply::json(status, &json!({"success": false, "message": message, "details": null}))
}

fn no_record(key: &str) -> Reply {
    error(404, &format!("未找到键名为 '{key}' 的记录"))
}

fn device() -> Value {
    json!({"id": KvStore::DEVICE, "uuid": "device-1", "name": "device", "createdAt": time(0), "updatedAt": time(0)})
}

fn token_info(token: &str, read_only: bool) -> Value {
    json!({
        "success": true, "token": token, "appId": "app", "deviceType": "test", "isReadOnly": read_only, "note": null,
        "installedAt": time(0), "updatedAt": time(0),
        "device": {"id": KvStore::DEVICE, "uuid": "device-1", "name": "device", "namespace": "device-1"},
    })
}

/// A path segment or a query value without its percent encoding (RFC 3986 §2.1).
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut plain, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}
