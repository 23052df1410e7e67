//! From a failure to the exception that Python raises.

use pyo3::prelude::*;

use crate::errors::{Described, Failure, Field, describe};

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        Python::attach(|py| raise(py, &describe(&failure)).unwrap_or_else(|failed| failed))
    }
}

fn raise(py: Python<'_>, described: &Described) -> PyResult<PyErr> {
    let class = py.import("bidlock.errors")?.getattr(described.class)?;
    let exception = class.call1((&described.message,))?;
    for (name, field) in &described.fields {
        match field {
            Field::Nothing => exception.setattr(*name, py.None())?,
            Field::Text(text) => exception.setattr(*name, text)?,
            Field::Number(number) => exception.setattr(*name, number)?,
            Field::Seconds(seconds) => exception.setattr(*name, seconds)?,
            Field::Flag(flag) => exception.setattr(*name, flag)?,
        }
    }
    Ok(PyErr::from_value(exception))
}
