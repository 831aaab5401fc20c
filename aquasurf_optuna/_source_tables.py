"""How each operator is written in the source of each backend; `_source.py` puts them together.

A pattern is a Python expression in which `{0}` and `{1}` stand for the arguments. It needs no
parentheses around them: they are set where precedence asks for them. A name with an underscore in
front is a helper, whose text goes into the source where it is used. Values follow `operators.py`,
NaN and infinities included.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType


@dataclasses.dataclass(frozen=True)
class Backend:
    """How source text for one library is written.

    Attributes:
        title: The library's name for people.
        imports: The names that patterns may use, each with the line that imports it.
        signature: The line that opens the function, with `{name}`.
        zeros: Pattern of an array of zeros; `ones` likewise; `full` with `{value}`.
        scalars: For an operator, which of its arguments may be plain numbers.
        patterns: For an operator, its pattern. N-ary operators are chains of binary ones.
        helpers: Text of each helper, those that are used by others first.
        largest: Numbers beyond this are written with `beyond` instead of `full`.
        beyond: Pattern of an array of a number that the dtype may not hold.
        first: Lines with which the function's body begins.
        last: The line that returns the value `y`; empty where the value is returned as it is.
    """

    title: str
    imports: Mapping[str, str]
    signature: str
    zeros: str
    ones: str
    full: str
    scalars: Mapping[str, tuple[int, ...]]
    patterns: Mapping[str, str]
    helpers: Mapping[str, str]
    largest: float = float("inf")
    beyond: str = ""
    first: tuple[str, ...] = ()
    last: str = ""


_ARITHMETIC = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "negative": "-{0}",
}

_MATH = {"math": "import math"}

_EVERY_SCALAR = dict.fromkeys(("add", "sub", "mul", "div", "max", "min"), (0, 1))

_TORCH = Backend(
    title="PyTorch",
    imports={"torch": "import torch", "F": "import torch.nn.functional as F", **_MATH},
    signature="def {name}(x: torch.Tensor) -> torch.Tensor:",
    zeros="torch.zeros_like(x)",
    ones="torch.ones_like(x)",
    full="torch.full_like(x, {value})",
    # torch computes number / tensor as number * (1 / tensor), which rounds otherwise.
    scalars={"add": (0, 1), "sub": (0, 1), "mul": (0, 1), "div": (1,)},
    # torch refuses a number that the dtype cannot hold. This is the largest of float16.
    largest=65504.0,
    beyond="_constant(x, {value})",
    patterns={
        **_ARITHMETIC,
        "abs": "torch.abs({0})",
        "reciprocal": "torch.reciprocal({0})",
        "square": "torch.square({0})",
        "exp": "torch.exp({0})",
        "erf": "torch.erf({0})",
        "erfc": "torch.erfc({0})",
        "sinh": "torch.sinh({0})",
        "cosh": "torch.cosh({0})",
        "tanh": "torch.tanh({0})",
        "expm1": "torch.expm1({0})",
        "sigmoid": "torch.sigmoid({0})",
        "log_sigmoid": "F.logsigmoid({0})",
        "arcsinh": "torch.asinh({0})",
        "arctan": "torch.atan({0})",
        "bessel_i0e": "torch.special.i0e({0})",
        "bessel_i1e": "torch.special.i1e({0})",
        "relu": "torch.relu({0})",
        "elu": "F.elu({0})",
        "selu": "F.selu({0})",
        "swish": "F.silu({0})",
        "softplus": "F.softplus({0}, threshold=40.0)",
        "softsign": "F.softsign({0})",
        "hard_sigmoid": "torch.clamp(0.2 * {0} + 0.5, 0.0, 1.0)",
        "elish": "_elish({0})",
        "gelu": "F.gelu({0})",
        "leakyrelu": "F.leaky_relu({0}, negative_slope=0.01)",
        "mish": "F.mish({0})",
        "pow": "torch.pow({0}, {1})",
        "max": "torch.maximum({0}, {1})",
        "min": "torch.minimum({0}, {1})",
    },
    helpers={
        "_constant": '''\
def _constant(x: torch.Tensor, value: float) -> torch.Tensor:
    """Return the number in the shape and dtype of x; infinite where the dtype cannot hold it."""
    return torch.tensor(value, dtype=torch.float64).to(x.dtype).to(x.device).expand_as(x)
''',
        "_elish": '''\
def _elish(x: torch.Tensor) -> torch.Tensor:
    """Return sigmoid(x) times x, or times exp(x) - 1 for negative x."""
    return torch.where(x < 0.0, torch.expm1(torch.clamp(x, max=0.0)), x) * torch.sigmoid(x)
''',
    },
)

_JAX = Backend(
    title="JAX",
    imports={
        "jax": "import jax",
        "jnp": "import jax.numpy as jnp",
        "special": "from jax.scipy import special",
        **_MATH,
    },
    signature="def {name}(x: jax.Array) -> jax.Array:",
    zeros="jnp.zeros_like(x)",
    ones="jnp.ones_like(x)",
    full="jnp.full_like(x, {value})",
    scalars=_EVERY_SCALAR,
    patterns={
        **_ARITHMETIC,
        "abs": "jnp.abs({0})",
        "reciprocal": "jnp.reciprocal({0})",
        "square": "jnp.square({0})",
        "exp": "jnp.exp({0})",
        "erf": "special.erf({0})",
        "erfc": "special.erfc({0})",
        "sinh": "jnp.sinh({0})",
        "cosh": "jnp.cosh({0})",
        "tanh": "jnp.tanh({0})",
        "expm1": "jnp.expm1({0})",
        "sigmoid": "jax.nn.sigmoid({0})",
        "log_sigmoid": "jax.nn.log_sigmoid({0})",
        "arcsinh": "jnp.arcsinh({0})",
        "arctan": "jnp.arctan({0})",
        "bessel_i0e": "special.i0e({0})",
        "bessel_i1e": "special.i1e({0})",
        "relu": "jax.nn.relu({0})",
        "elu": "jax.nn.elu({0})",
        "selu": "jax.nn.selu({0})",
        "swish": "jax.nn.silu({0})",
        "softplus": "jax.nn.softplus({0})",
        "softsign": "jax.nn.soft_sign({0})",
        "hard_sigmoid": "jnp.clip(0.2 * {0} + 0.5, 0.0, 1.0)",
        "elish": "_elish({0})",
        "gelu": "jax.nn.gelu({0}, approximate=False)",
        "leakyrelu": "jax.nn.leaky_relu({0}, negative_slope=0.01)",
        "mish": "jax.nn.mish({0})",
        "pow": "jnp.power({0}, {1})",
        "max": "jnp.maximum({0}, {1})",
        "min": "jnp.minimum({0}, {1})",
    },
    helpers={
        "_elish": '''\
def _elish(x: jax.Array) -> jax.Array:
    """Return sigmoid(x) times x, or times exp(x) - 1 for negative x."""
    return jnp.where(x < 0.0, jnp.expm1(jnp.minimum(x, 0.0)), x) * jax.nn.sigmoid(x)
''',
    },
)

_KERAS = Backend(
    title="Keras 3",
    imports={"keras": "import keras", "ops": "from keras import ops", **_MATH},
    signature="def {name}(x):",
    zeros="ops.zeros_like(x)",
    ones="ops.ones_like(x)",
    full="ops.full_like(x, {value})",
    scalars=_EVERY_SCALAR,
    patterns={
        **_ARITHMETIC,
        "abs": "ops.abs({0})",
        "reciprocal": "ops.reciprocal({0})",
        "square": "ops.square({0})",
        "exp": "ops.exp({0})",
        "erf": "ops.erf({0})",
        "erfc": "_erfc({0})",
        "sinh": "ops.sinh({0})",
        "cosh": "ops.cosh({0})",
        "tanh": "ops.tanh({0})",
        "expm1": "ops.expm1({0})",
        "sigmoid": "ops.sigmoid({0})",
        "log_sigmoid": "ops.log_sigmoid({0})",
        "arcsinh": "ops.arcsinh({0})",
        "arctan": "ops.arctan({0})",
        "bessel_i0e": "_bessel_i0e({0})",
        "bessel_i1e": "_bessel_i1e({0})",
        "relu": "ops.relu({0})",
        "elu": "ops.elu({0})",
        "selu": "ops.selu({0})",
        "swish": "ops.silu({0})",
        "softplus": "ops.softplus({0})",
        "softsign": "ops.softsign({0})",
        "hard_sigmoid": "ops.clip(0.2 * {0} + 0.5, 0.0, 1.0)",
        "elish": "_elish({0})",
        "gelu": "ops.gelu({0}, approximate=False)",
        "leakyrelu": "ops.leaky_relu({0}, negative_slope=0.01)",
        "mish": "{0} * ops.tanh(ops.softplus({0}))",
        "pow": "ops.power({0}, {1})",
        "max": "ops.maximum({0}, {1})",
        "min": "ops.minimum({0}, {1})",
    },
    helpers={
        "_polynomial": '''\
def _polynomial(t, coefficients):
    """Return the polynomial in t, the constant term first."""
    value = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        value = value * t + coefficient
    return value
''',
        # The polynomial was fitted to erfcx(x) (1 + x / 2), by least squares of relative errors.
        "_erfc": '''\
def _erfc(x):
    """Return 1 - erf(x), to about 2e-8 of its value."""
    z = ops.abs(x)
    t = 1.0 / (1.0 + 0.5 * z)
    coefficients = (
        0.282094795, 0.282093754, 0.246884575, 0.175315976, 0.0934624345, -0.0592113582,
        0.132177045, -0.454973989, 0.493694933, -0.234733593, 0.0431954334,
    )  # fmt: skip
    tail = t * ops.exp(-z * z) * _polynomial(t, coefficients)
    return ops.where(z < 0.5, 1.0 - ops.erf(x), ops.where(x < 0.0, 2.0 - tail, tail))
''',
        "_bessel_i0e": '''\
def _bessel_i0e(x):
    """Return exp(-|x|) I0(x), to about 6e-7 of its value."""
    # Abramowitz and Stegun, equations 9.8.1 and 9.8.2.
    z = ops.abs(x)
    near, far = ops.minimum(z, 3.75), ops.maximum(z, 3.75)
    below = ops.exp(-near) * _polynomial(
        ops.square(near / 3.75),
        (1.0, 3.5156229, 3.0899424, 1.2067492, 0.2659732, 0.0360768, 0.0045813),
    )
    coefficients = (
        0.39894228, 0.01328592, 0.00225319, -0.00157565, 0.00916281,
        -0.02057706, 0.02635537, -0.01647633, 0.00392377,
    )  # fmt: skip
    return ops.where(z < 3.75, below, _polynomial(3.75 / far, coefficients) / ops.sqrt(far))
''',
        "_bessel_i1e": '''\
def _bessel_i1e(x):
    """Return exp(-|x|) I1(x), to about 7e-7 of its value."""
    # Abramowitz and Stegun, equations 9.8.3 and 9.8.4.
    z = ops.abs(x)
    near, far = ops.minimum(z, 3.75), ops.maximum(z, 3.75)
    below = x * ops.exp(-near) * _polynomial(
        ops.square(near / 3.75),
        (0.5, 0.87890594, 0.51498869, 0.15084934, 0.02658733, 0.00301532, 0.00032411),
    )
    coefficients = (
        0.39894228, -0.03988024, -0.00362018, 0.00163801, -0.01031555,
        0.02282967, -0.02895312, 0.01787654, -0.00420059,
    )  # fmt: skip
    above = _polynomial(3.75 / far, coefficients) / ops.sqrt(far)
    return ops.where(z < 3.75, below, ops.sign(x) * above)
''',
        "_elish": '''\
def _elish(x):
    """Return sigmoid(x) times x, or times exp(x) - 1 for negative x."""
    return ops.where(x < 0.0, ops.expm1(ops.minimum(x, 0.0)), x) * ops.sigmoid(x)
''',
    },
)

_NUMPY = Backend(
    title="NumPy",
    imports={
        "np": "import numpy as np",
        "numpy": "import numpy",
        "special": "from scipy import special",
        **_MATH,
    },
    signature='@np.errstate(all="ignore")\ndef {name}(x: np.ndarray) -> np.ndarray:',
    zeros="np.zeros_like(x)",
    ones="np.ones_like(x)",
    full="np.full_like(x, {value})",
    scalars=_EVERY_SCALAR,
    first=("x = np.multiply(x, 1.0)  # floats keep their dtype, integers become float64",),
    last="return np.asarray(y, dtype=x.dtype)",
    patterns={
        **_ARITHMETIC,
        "abs": "np.abs({0})",
        "reciprocal": "np.reciprocal({0})",
        "square": "np.square({0})",
        "exp": "np.exp({0})",
        "erf": "special.erf({0})",
        "erfc": "special.erfc({0})",
        "sinh": "np.sinh({0})",
        "cosh": "np.cosh({0})",
        "tanh": "np.tanh({0})",
        "expm1": "np.expm1({0})",
        "sigmoid": "special.expit({0})",
        "log_sigmoid": "special.log_expit({0})",
        "arcsinh": "np.arcsinh({0})",
        "arctan": "np.arctan({0})",
        "bessel_i0e": "special.i0e({0})",
        "bessel_i1e": "special.i1e({0})",
        "relu": "np.maximum({0}, 0.0)",
        "elu": "_elu({0})",
        "selu": "_selu({0})",
        "swish": "{0} * special.expit({0})",
        "softplus": "np.logaddexp({0}, 0.0)",
        "softsign": "{0} / (1.0 + np.abs({0}))",
        "hard_sigmoid": "np.clip(0.2 * {0} + 0.5, 0.0, 1.0)",
        "elish": "_elish({0})",
        "gelu": "0.5 * {0} * (1.0 + special.erf(0.7071067811865476 * {0}))",
        "leakyrelu": "np.where({0} > 0.0, {0}, 0.01 * {0})",
        "mish": "{0} * np.tanh(np.logaddexp({0}, 0.0))",
        "pow": "np.power({0}, {1})",
        "max": "np.maximum({0}, {1})",
        "min": "np.minimum({0}, {1})",
    },
    helpers={
        "_elu": '''\
def _elu(x: np.ndarray) -> np.ndarray:
    """Return x, or exp(x) - 1 for negative x."""
    return np.where(x > 0.0, x, np.expm1(np.minimum(x, 0.0)))
''',
        "_selu": '''\
def _selu(x: np.ndarray) -> np.ndarray:
    """Return the scaled exponential linear unit of x."""
    below = 1.6732632423543772 * np.expm1(np.minimum(x, 0.0))
    return 1.0507009873554805 * np.where(x > 0.0, x, below)
''',
        "_elish": '''\
def _elish(x: np.ndarray) -> np.ndarray:
    """Return sigmoid(x) times x, or times exp(x) - 1 for negative x."""
    return np.where(x < 0.0, np.expm1(np.minimum(x, 0.0)), x) * special.expit(x)
''',
    },
)

BACKENDS: MappingProxyType[str, Backend] = MappingProxyType(
    {"torch": _TORCH, "jax": _JAX, "keras": _KERAS, "numpy": _NUMPY}
)
"""Every backend by its name."""
