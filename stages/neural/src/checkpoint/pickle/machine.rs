//! The stack machine that a pickle is written for, as far as a dict of tensors needs it.
//!
//! Source: Python's `pickletools` for the instructions, PyTorch's `torch/serialization.py` and `torch/_utils.py` for the names.

use std::collections::BTreeMap;

use tch::Kind;

/// One tensor: which part of which storage.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    /// Name of the archive's member.
    pub(super) storage: String,
    /// Elements of the storage.
    pub(super) storage_len: u64,
    pub(super) kind: Kind,
    pub(super) offset: i64,
    pub(super) shape: Vec<i64>,
    pub(super) stride: Vec<i64>,
}

/// A value on the stack.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Tuple(Vec<Value>),
    List(Vec<Value>),
    /// In order of insertion.
    Dict(Vec<(Value, Value)>),
    /// A name that is known to be harmless.
    Name(Name),
    Storage {
        name: String,
        len: u64,
        kind: Kind,
    },
    Tensor(Stored),
}

/// The names we know.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Name {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Kind),
}

impl Name {
    fn of(module: &str, name: &str) -> Result<Self, String> {
        let kind = |kind| Ok(Self::Storage(kind));
        match (module, name) {
            ("collections", "OrderedDict") => Ok(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Ok(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Ok(Self::RebuildParameter),
            ("torch", "FloatStorage") => kind(Kind::Float),
            ("torch", "DoubleStorage") => kind(Kind::Double),
            ("torch", "HalfStorage") => kind(Kind::Half),
            ("torch", "BFloat16Storage") => kind(Kind::BFloat16),
            ("torch", "LongStorage") => kind(Kind::Int64),
            ("torch", "IntStorage") => kind(Kind::Int),
            ("torch", "ShortStorage") => kind(Kind::Int16),
            ("torch", "CharStorage") => kind(Kind::Int8),
            ("torch", "ByteStorage") => kind(Kind::Uint8),
            ("torch", "BoolStorage") => kind(Kind::Bool),
            _ => Err(format!("it wants to call `{module}.{name}`, which is no part of a dict of tensors; nothing of it was run")),
        }
    }
}

/// Runs a program and gives the tensors of the dict that it builds.
pub(super) fn run(program: &[u8]) -> Result<Vec<(String, Stored)>, String> {
    let mut machine = Machine { program, at: 0, stack: Vec::new(), marks: Vec::new(), memo: BTreeMap::new() };
    let result = machine.run()?;
    tensors(result)
}

/// The tensors of a dict, or of the dict that lies in it under one of the usual names.
fn tensors(value: Value) -> Result<Vec<(String, Stored)>, String> {
    let Value::Dict(pairs) = value else { return Err("it holds something else than a dict of tensors".to_owned()) };
    let inner = ["state_dict", "model", "model_state_dict", "generator"];
    let nested = pairs
        .iter()
        .position(|(key, value)| matches!((key, value), (Value::Text(name), Value::Dict(_)) if inner.contains(&name.as_str())));
    if let Some(at) = nested {
        return tensors(pairs.into_iter().nth(at).map_or(Value::None, |(_, value)| value));
    }
    pairs
        .into_iter()
        .map(|pair| match pair {
            (Value::Text(name), Value::Tensor(tensor)) => Ok((name, tensor)),
            (key, _) => Err(format!("it holds something else than a tensor under {key:?}")),
        })
        .collect()
}

struct Machine<'a> {
    program: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Value>,
}

/// More than any state dict memorises; a program of references to references could fill the memory otherwise.
const MAX_STACK: usize = 10_000_000;

impl Machine<'_> {
    fn run(&mut self) -> Result<Value, String> {
        loop {
            let instruction = self.byte()?;
            if instruction == b'.' {
                return self.pop();
            }
            self.step(instruction)?;
            if self.stack.len() > MAX_STACK {
                return Err("its stack grows beyond all bounds".to_owned());
            }
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each instruction")]
    fn step(&mut self, instruction: u8) -> Result<(), String> {
        match instruction {
            0x80 => drop(self.take(1)?), // version
            0x95 => drop(self.take(8)?), // length of a frame
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            b'K' => {
                let value = self.byte()?;
                self.stack.push(Value::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(value.into()));
            }
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(value.into()));
            }
            0x8a => {
                let len = self.byte()? as usize;
                let value = long(self.take(len)?)?;
                self.stack.push(Value::Int(value));
            }
            b'G' => {
                let value = f64::from_be_bytes(self.array()?);
                self.stack.push(Value::Float(value));
            }
            b'X' => {
                let len = u32::from_le_bytes(self.array()?) as usize;
                self.text(len)?;
            }
            0x8c => {
                let len = self.byte()? as usize;
                self.text(len)?;
            }
            b')' => self.stack.push(Value::Tuple(Vec::new())),
            b']' => self.stack.push(Value::List(Vec::new())),
            b'}' => self.stack.push(Value::Dict(Vec::new())),
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(instruction - 0x84))?;
                self.stack.push(Value::Tuple(items));
            }
            b't' => {
                let items = self.pop_to_mark()?;
                self.stack.push(Value::Tuple(items));
            }
            b'l' => {
                let items = self.pop_to_mark()?;
                self.stack.push(Value::List(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.extend_list(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.extend_list(items)?;
            }
            b's' => {
                let items = self.pop_many(2)?;
                self.extend_dict(items)?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.extend_dict(items)?;
            }
            b'q' => {
                let key = self.byte()?.into();
                self.remember(key)?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.array()?);
                self.remember(key)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => {
                let key = self.byte()?.into();
                self.recall(key)?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.array()?);
                self.recall(key)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.stack.push(Value::Name(Name::of(&module, &name)?));
            }
            0x93 => {
                let [Value::Text(module), Value::Text(name)] = &self.pop_many(2)?[..] else { return Err(damaged()) };
                self.stack.push(Value::Name(Name::of(module, name)?));
            }
            b'Q' => {
                let id = self.pop()?;
                self.stack.push(storage(id)?);
            }
            b'R' => {
                let [function, arguments] = &self.pop_many(2)?[..] else { return Err(damaged()) };
                self.stack.push(call(function, arguments)?);
            }
            // The attributes of an ordered dict, `_metadata`: versions of modules, which say nothing of the tensors.
            b'b' => drop(self.pop()?),
            other => {
                return Err(format!(
                    "it has the instruction {other:#04x}, which no dict of tensors needs; nothing of it was run"
                ));
            }
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&[u8], String> {
        let end = self.at.checked_add(count).ok_or_else(damaged)?;
        let bytes = self.program.get(self.at..end).ok_or("its program ends early")?;
        self.at = end;
        Ok(bytes)
    }
    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| damaged())
    }
    fn line(&mut self) -> Result<String, String> {
        let rest = &self.program[self.at..];
        let len = rest.iter().position(|&byte| byte == b'\n').ok_or("its program ends early")?;
        self.at += len + 1;
        String::from_utf8(rest[..len].to_vec()).map_err(|_| damaged())
    }
    fn text(&mut self, len: usize) -> Result<(), String> {
        let text = String::from_utf8(self.take(len)?.to_vec()).map_err(|_| damaged())?;
        self.stack.push(Value::Text(text));
        Ok(())
    }

    fn pop(&mut self) -> Result<Value, String> {
        self.stack.pop().ok_or_else(damaged)
    }
    fn pop_many(&mut self, count: usize) -> Result<Vec<Value>, String> {
        let at = self.stack.len().checked_sub(count).ok_or_else(damaged)?;
        Ok(self.stack.split_off(at))
    }
    fn pop_to_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len()).ok_or_else(damaged)?;
        Ok(self.stack.split_off(mark))
    }
    fn extend_list(&mut self, items: Vec<Value>) -> Result<(), String> {
        let Some(Value::List(list)) = self.stack.last_mut() else { return Err(damaged()) };
        list.extend(items);
        Ok(())
    }
    fn extend_dict(&mut self, items: Vec<Value>) -> Result<(), String> {
        let Some(Value::Dict(dict)) = self.stack.last_mut() else { return Err(damaged()) };
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            dict.push((key, value));
        }
        Ok(())
    }
    /// Containers are memorised while they are still empty. No state dict refers to one later, so their copies stay empty.
    fn remember(&mut self, key: u32) -> Result<(), String> {
        let value = self.stack.last().ok_or_else(damaged)?.clone();
        self.memo.insert(key, value);
        Ok(())
    }
    fn recall(&mut self, key: u32) -> Result<(), String> {
        let value = self.memo.get(&key).ok_or_else(damaged)?.clone();
        self.stack.push(value);
        Ok(())
    }
}

fn damaged() -> String {
    "its program is damaged".to_owned()
}

/// An integer of any length, little end first.
fn long(bytes: &[u8]) -> Result<i64, String> {
    if bytes.len() > 8 {
        return Err("it holds an integer of more than 64 bits".to_owned());
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut whole = [if negative { 0xff } else { 0 }; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    Ok(i64::from_le_bytes(whole))
}

/// `("storage", FloatStorage, name, device, length)`.
fn storage(id: Value) -> Result<Value, String> {
    let Value::Tuple(parts) = id else { return Err(damaged()) };
    match &parts[..] {
        [Value::Text(word), Value::Name(Name::Storage(kind)), Value::Text(name), Value::Text(_), Value::Int(len)]
            if word == "storage" && *len >= 0 =>
        {
            Ok(Value::Storage { name: name.clone(), len: *len as u64, kind: *kind })
        }
        _ => Err(damaged()),
    }
}

/// The three calls that we know.
fn call(function: &Value, arguments: &Value) -> Result<Value, String> {
    let (Value::Name(name), Value::Tuple(arguments)) = (function, arguments) else { return Err(damaged()) };
    match (name, &arguments[..]) {
        (Name::OrderedDict, []) => Ok(Value::Dict(Vec::new())),
        (Name::RebuildParameter, [Value::Tensor(tensor), ..]) => Ok(Value::Tensor(tensor.clone())),
        (Name::RebuildTensor, [Value::Storage { name, len, kind }, Value::Int(offset), shape, stride, ..]) => {
            let (storage, storage_len, kind, offset) = (name.clone(), *len, *kind, *offset);
            Ok(Value::Tensor(Stored { storage, storage_len, kind, offset, shape: whole(shape)?, stride: whole(stride)? }))
        }
        _ => Err(damaged()),
    }
}

fn whole(value: &Value) -> Result<Vec<i64>, String> {
    let Value::Tuple(items) = value else { return Err(damaged()) };
    items.iter().map(|item| if let Value::Int(value) = item { Ok(*value) } else { Err(damaged()) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(program: &[u8], part: &str) {
        let reason = run(program).unwrap_err();
        assert!(reason.contains(part), "{reason}");
    }

    #[test]
    fn code_is_refused_and_named() {
        // What `pickle.dumps` makes of an object whose `__reduce__` is `(os.system, ("true",))`.
        refused(b"\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03.", "`posix.system`");
        refused(
            b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x8c\x04exec\x93\x8c\x01x\x85R.",
            "`builtins.exec`",
        );
        // INST, OBJ and NEWOBJ make objects, too.
        refused(b"(ios\nsystem\n.", "0x69");
        refused(b"(ccollections\nOrderedDict\no.", "0x6f");
        refused(b"ccollections\nOrderedDict\n)\x81.", "0x81");
    }

    #[test]
    fn damage_is_an_error() {
        let whole = b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x01u.";
        refused(whole, "something else than a tensor");
        for end in 0..whole.len() {
            run(&whole[..end]).unwrap_err();
        }
        refused(b"\x85.", "damaged");
        refused(b"h\x07.", "damaged");
        refused(b"t.", "damaged");
    }

    #[test]
    fn numbers_of_all_widths_are_read() {
        assert_eq!((long(&[]), long(&[0xff]), long(&[0, 1])), (Ok(0), Ok(-1), Ok(256)));
        long(&[1; 9]).unwrap_err();
        assert_eq!(run(b"\x80\x02ccollections\nOrderedDict\n)R}b."), Ok(Vec::new()));
    }
}
