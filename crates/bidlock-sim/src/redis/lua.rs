//! Scripts, run by the same Lua that servers have.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use mlua::{Function, Lua, LuaOptions, StdLib, Table, Value, Variadic};

use super::engine::Engine;
use super::reply::Reply;

/// One interpreter with what it has compiled; it outlives the servers that it is lent to.
pub(crate) struct Interpreter {
    lua: Lua,
    engine: Rc<RefCell<Engine>>,
    compiled: BTreeMap<String, Function>,
}

/// What `redis.call` raises.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

impl Interpreter {
    /// Makes an interpreter whose scripts change `engine`.
    pub(crate) fn new(engine: Rc<RefCell<Engine>>) -> mlua::Result<Self> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::default())?;
        let redis = lua.create_table()?;
        for (name, raises) in [("call", true), ("pcall", false)] {
            let shared = Rc::clone(&engine);
            let call = move |lua: &Lua, words: Variadic<Value>| {
                called(lua, &mut shared.borrow_mut(), &words, raises)
            };
            redis.set(name, lua.create_function(call)?)?;
        }
        for (name, field) in [("error_reply", "err"), ("status_reply", "ok")] {
            let make = move |lua: &Lua, text: mlua::LuaString| {
                let table = lua.create_table()?;
                table.set(field, text)?;
                Ok(table)
            };
            redis.set(name, lua.create_function(make)?)?;
        }
        let sha = |_: &Lua, text: mlua::LuaString| {
            Ok(sha1_smol::Sha1::from(text.as_bytes().as_ref()).hexdigest())
        };
        redis.set("sha1hex", lua.create_function(sha)?)?;
        lua.globals().set("redis", redis)?;
        Ok(Self { lua, engine, compiled: BTreeMap::new() })
    }

    /// Compiles a script, where it was not before.
    pub(crate) fn compile(&mut self, sha: &str, text: &[u8]) -> Result<(), String> {
        if self.compiled.contains_key(sha) {
            return Ok(());
        }
        let chunk = self.lua.load(text).set_name("@user_script");
        let function = chunk.into_function();
        let function = function
            .map_err(|error| format!("ERR Error compiling script (new function): {error}"))?;
        self.compiled.insert(sha.to_owned(), function);
        Ok(())
    }

    /// Runs a script that was compiled.
    pub(crate) fn run(&mut self, sha: &str, keys: &[Vec<u8>], argv: &[Vec<u8>]) -> Reply {
        let Some(function) = self.compiled.get(sha).cloned() else {
            return Reply::error("NOSCRIPT No matching script. Please use EVAL.");
        };
        self.engine.borrow_mut().script = Some(false);
        let done = self.prepare(keys, argv).and_then(|()| function.call::<Value>(()));
        self.engine.borrow_mut().script = None;
        match done.and_then(|value| reply_of(&value)) {
            Ok(reply) => reply,
            Err(error) => failed(&error, sha),
        }
    }

    fn prepare(&self, keys: &[Vec<u8>], argv: &[Vec<u8>]) -> mlua::Result<()> {
        let globals = self.lua.globals();
        for (name, words) in [("KEYS", keys), ("ARGV", argv)] {
            let table = self.lua.create_table_with_capacity(words.len(), 0)?;
            for word in words {
                table.raw_push(self.lua.create_string(word)?)?;
            }
            globals.raw_set(name, table)?;
        }
        Ok(())
    }
}

fn failed(error: &mlua::Error, sha: &str) -> Reply {
    let text = match error.downcast_ref::<Raised>() {
        Some(Raised(text)) => text.trim_end_matches('.').to_owned(),
        None => format!("ERR {}", error.to_string().replace(['\r', '\n'], " ")),
    };
    Reply::error(format!("{text} script: {sha}, on @user_script:1."))
}

fn called(lua: &Lua, engine: &mut Engine, words: &[Value], raises: bool) -> mlua::Result<Value> {
    let words: Option<Vec<Vec<u8>>> = words.iter().map(word_of).collect();
    let reply = match words {
        Some(words) if !words.is_empty() => engine.call(&words),
        _ => Reply::error("ERR Lua redis lib command arguments must be strings or integers"),
    };
    match reply {
        Reply::Error(text) if raises => Err(mlua::Error::external(Raised(text))),
        reply => value_of(lua, &reply),
    }
}

/// An argument as the server sends it on: numbers with all their digits.
fn word_of(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        Value::Integer(number) => Some(number.to_string().into_bytes()),
        Value::Number(number) => Some(digits(*number).into_bytes()),
        _ => None,
    }
}

/// A number with all its digits, or with an exponent where it is very large.
fn digits(number: f64) -> String {
    if number.abs() < 1e17 {
        return format!("{number}");
    }
    format!("{number:e}").replace('e', "e+")
}

/// A reply as scripts see it.
fn value_of(lua: &Lua, reply: &Reply) -> mlua::Result<Value> {
    Ok(match reply {
        #[expect(clippy::cast_precision_loss, reason = "numbers of Lua are doubles")]
        Reply::Int(number) => Value::Number(*number as f64),
        Reply::Bulk(bytes) => Value::String(lua.create_string(bytes)?),
        Reply::Nil => Value::Boolean(false),
        Reply::Status(text) => Value::Table(marked(lua, "ok", text)?),
        Reply::Error(text) => Value::Table(marked(lua, "err", text)?),
        Reply::Array(values) | Reply::Push(values) => {
            let table = lua.create_table_with_capacity(values.len(), 0)?;
            for value in values {
                table.raw_push(value_of(lua, value)?)?;
            }
            Value::Table(table)
        }
        Reply::Map(pairs) => {
            let table = lua.create_table_with_capacity(pairs.len() * 2, 0)?;
            for (name, value) in pairs {
                table.raw_push(value_of(lua, name)?)?;
                table.raw_push(value_of(lua, value)?)?;
            }
            Value::Table(table)
        }
    })
}

fn marked(lua: &Lua, field: &str, text: &str) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set(field, text)?;
    Ok(table)
}

/// What a script returned, as it goes to the client.
fn reply_of(value: &Value) -> mlua::Result<Reply> {
    Ok(match value {
        Value::Boolean(true) => Reply::Int(1),
        Value::Integer(number) => Reply::Int(*number),
        #[expect(clippy::cast_possible_truncation, reason = "servers cut fractions off")]
        Value::Number(number) => Reply::Int(*number as i64),
        Value::String(text) => Reply::Bulk(text.as_bytes().to_vec()),
        Value::Table(table) => {
            if let Some(text) = table.raw_get::<Option<String>>("err")? {
                return Ok(Reply::Error(text));
            }
            if let Some(text) = table.raw_get::<Option<String>>("ok")? {
                return Ok(Reply::Status(text));
            }
            let mut values = Vec::new();
            for n in 1.. {
                let value: Value = table.raw_get(n)?;
                if value.is_nil() {
                    break;
                }
                values.push(reply_of(&value)?);
            }
            Reply::Array(values)
        }
        _ => Reply::Nil,
    })
}
