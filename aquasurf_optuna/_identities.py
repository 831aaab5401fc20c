"""Identities between functions, by which `simplify.py` rewrites expressions.

An identity is two texts in the notation of expressions, the right one the simpler. Letters stand
for subexpressions: `f`, `g`, `h` for any, `p`, `q` for one that is never negative, `c`, `d` for
numbers, `m` for a number that is not positive. The arguments of `add`, `mul`, `max` and `min` are
found in either order. What is written on the right is computed where all its arguments are numbers.

Some identities hold only for some `f`: `div(f,f)` is 1 unless `f` is 0 somewhere, and in floating
point `sub(1,erf(f))` keeps fewer digits than `erfc(f)`. That is for the caller to check.
"""

from __future__ import annotations

COMMUTATIVE = frozenset({"add", "mul", "max", "min"})

BINARY_OF = {"sum_n": "add", "prod_n": "mul", "max_n": "max", "min_n": "min"}
"""The operator of two arguments that each n-ary one repeats."""

_NEUTRAL = (
    ("identity(f)", "f"),
    ("zero(f)", "0"),
    ("one(f)", "1"),
    ("add(0,f)", "f"),
    ("sub(f,0)", "f"),
    ("sub(0,f)", "negative(f)"),
    ("mul(1,f)", "f"),
    ("mul(-1,f)", "negative(f)"),
    ("mul(0,f)", "0"),
    ("div(f,1)", "f"),
    ("div(f,-1)", "negative(f)"),
    ("div(0,f)", "0"),
    ("div(1,f)", "reciprocal(f)"),
    ("pow(f,0)", "1"),
    ("pow(f,1)", "f"),
    ("pow(f,2)", "square(f)"),
    ("pow(f,-1)", "reciprocal(f)"),
    ("pow(1,f)", "1"),
)

_SIGNS = (
    ("negative(negative(f))", "f"),
    ("negative(sub(f,g))", "sub(g,f)"),
    ("negative(mul(c,f))", "mul(negative(c),f)"),
    ("negative(div(c,f))", "div(negative(c),f)"),
    ("negative(div(f,c))", "div(f,negative(c))"),
    ("negative(mul(negative(f),g))", "mul(f,g)"),
    ("negative(div(negative(f),g))", "div(f,g)"),
    ("negative(div(f,negative(g)))", "div(f,g)"),
    ("add(f,negative(g))", "sub(f,g)"),
    ("add(negative(f),negative(g))", "negative(add(f,g))"),
    ("sub(f,negative(g))", "add(f,g)"),
    ("sub(negative(f),negative(g))", "sub(g,f)"),
    ("sub(c,negative(f))", "add(c,f)"),
    ("mul(c,negative(f))", "mul(negative(c),f)"),
    ("mul(negative(f),negative(g))", "mul(f,g)"),
    ("div(negative(f),negative(g))", "div(f,g)"),
    ("div(c,negative(f))", "div(negative(c),f)"),
    ("div(negative(f),c)", "div(f,negative(c))"),
    ("reciprocal(negative(f))", "div(-1,f)"),
)

_SUMS = (
    ("add(f,f)", "mul(2,f)"),
    ("add(f,mul(c,f))", "mul(add(c,1),f)"),
    ("add(mul(c,f),mul(d,f))", "mul(add(c,d),f)"),
    ("add(mul(f,g),mul(f,h))", "mul(f,add(g,h))"),
    ("add(div(f,h),div(g,h))", "div(add(f,g),h)"),
    ("sub(f,f)", "0"),
    ("sub(f,mul(c,f))", "mul(sub(1,c),f)"),
    ("sub(mul(c,f),f)", "mul(sub(c,1),f)"),
    ("sub(mul(c,f),mul(d,f))", "mul(sub(c,d),f)"),
    ("sub(mul(f,g),mul(f,h))", "mul(f,sub(g,h))"),
    ("sub(div(f,h),div(g,h))", "div(sub(f,g),h)"),
    ("sub(negative(f),f)", "mul(-2,f)"),
    ("sub(negative(f),mul(c,f))", "mul(sub(-1,c),f)"),
    ("sub(add(f,g),f)", "g"),
    ("sub(f,add(f,g))", "negative(g)"),
    ("add(f,sub(g,f))", "g"),
    ("sub(f,sub(f,g))", "g"),
    ("add(c,add(d,f))", "add(add(c,d),f)"),
    ("add(c,sub(d,f))", "sub(add(c,d),f)"),
    ("add(c,sub(f,d))", "add(sub(c,d),f)"),
    ("sub(c,add(d,f))", "sub(sub(c,d),f)"),
    ("sub(c,sub(d,f))", "add(sub(c,d),f)"),
    ("sub(c,sub(f,d))", "sub(add(c,d),f)"),
    ("sub(add(c,f),d)", "add(sub(c,d),f)"),
    ("sub(sub(c,f),d)", "sub(sub(c,d),f)"),
    ("sub(sub(f,c),d)", "sub(f,add(c,d))"),
)

_PRODUCTS = (
    ("mul(f,f)", "square(f)"),
    ("mul(c,mul(d,f))", "mul(mul(c,d),f)"),
    ("mul(c,div(d,f))", "div(mul(c,d),f)"),
    ("mul(c,div(f,d))", "mul(div(c,d),f)"),
    ("mul(c,reciprocal(f))", "div(c,f)"),
    ("mul(mul(c,f),mul(d,g))", "mul(mul(c,d),mul(f,g))"),
    ("div(mul(c,f),d)", "mul(div(c,d),f)"),
    ("div(mul(c,f),mul(d,g))", "mul(div(c,d),div(f,g))"),
    ("div(c,mul(d,f))", "div(div(c,d),f)"),
    ("div(c,div(d,f))", "mul(div(c,d),f)"),
    ("div(c,div(f,d))", "div(mul(c,d),f)"),
    ("div(div(f,c),d)", "div(f,mul(c,d))"),
    ("div(div(c,f),d)", "div(div(c,d),f)"),
    ("div(f,f)", "1"),
    ("div(f,negative(f))", "-1"),
    ("div(negative(f),f)", "-1"),
    ("div(mul(f,g),f)", "g"),
    ("div(f,mul(f,g))", "reciprocal(g)"),
    ("mul(f,div(g,f))", "g"),
    ("div(square(f),f)", "f"),
    ("div(f,square(f))", "reciprocal(f)"),
    ("div(f,div(f,g))", "g"),
    ("mul(f,reciprocal(g))", "div(f,g)"),
    ("div(f,reciprocal(g))", "mul(f,g)"),
    ("reciprocal(reciprocal(f))", "f"),
    ("reciprocal(div(f,g))", "div(g,f)"),
    ("reciprocal(mul(c,f))", "div(reciprocal(c),f)"),
    ("square(negative(f))", "square(f)"),
    ("square(div(-1,f))", "square(reciprocal(f))"),
    ("abs(div(-1,f))", "abs(reciprocal(f))"),
    ("mul(square(f),square(g))", "square(mul(f,g))"),
    ("div(square(f),square(g))", "square(div(f,g))"),
    ("mul(abs(f),abs(g))", "abs(mul(f,g))"),
    ("div(abs(f),abs(g))", "abs(div(f,g))"),
)

_POWERS = (
    ("mul(f,square(f))", "pow(f,3)"),
    ("mul(f,pow(f,c))", "pow(f,add(c,1))"),
    ("mul(pow(f,c),pow(f,d))", "pow(f,add(c,d))"),
    ("square(square(f))", "pow(f,4)"),
    ("square(pow(f,c))", "pow(f,mul(2,c))"),
    ("pow(square(f),c)", "pow(f,mul(2,c))"),
    ("pow(pow(f,c),d)", "pow(f,mul(c,d))"),
)

_KINKS = (
    ("abs(p)", "p"),
    ("abs(negative(f))", "abs(f)"),
    ("square(abs(f))", "square(f)"),
    ("relu(p)", "p"),
    ("relu(negative(p))", "0"),
    ("elu(p)", "p"),
    ("leakyrelu(p)", "p"),
    ("max(0,f)", "relu(f)"),
    ("max(f,f)", "f"),
    ("max(f,max(f,g))", "max(f,g)"),
    ("max(f,min(f,g))", "f"),
    ("max(f,negative(f))", "abs(f)"),
    ("max(f,abs(f))", "abs(f)"),
    ("max(f,relu(f))", "relu(f)"),
    ("max(f,elu(f))", "elu(f)"),
    ("max(relu(f),elu(f))", "relu(f)"),
    ("max(f,mul(0.01,f))", "leakyrelu(f)"),
    ("max(p,negative(q))", "p"),
    ("max(m,p)", "p"),
    ("max(c,max(d,f))", "max(max(c,d),f)"),
    ("min(f,f)", "f"),
    ("min(f,min(f,g))", "min(f,g)"),
    ("min(f,max(f,g))", "f"),
    ("min(f,negative(f))", "negative(abs(f))"),
    ("min(f,abs(f))", "f"),
    ("min(f,relu(f))", "f"),
    ("min(f,elu(f))", "f"),
    ("min(relu(f),elu(f))", "elu(f)"),
    ("min(p,negative(q))", "negative(q)"),
    ("min(m,p)", "m"),
    ("min(c,min(d,f))", "min(min(c,d),f)"),
    ("max(negative(f),negative(g))", "negative(min(f,g))"),
    ("min(negative(f),negative(g))", "negative(max(f,g))"),
    ("relu(elu(f))", "relu(f)"),
    ("relu(leakyrelu(f))", "relu(f)"),
    ("relu(max(c,f))", "max(relu(c),f)"),
    ("add(f,abs(f))", "mul(2,relu(f))"),
    ("add(f,relu(negative(f)))", "relu(f)"),
    ("add(relu(f),relu(negative(f)))", "abs(f)"),
    ("sub(relu(f),relu(negative(f)))", "f"),
    ("sub(f,relu(f))", "min(0,f)"),
    ("sub(relu(f),f)", "relu(negative(f))"),
    ("mul(relu(f),relu(negative(f)))", "0"),
)

_EXPONENTIALS = (
    ("mul(f,sigmoid(f))", "swish(f)"),
    ("mul(negative(f),sigmoid(f))", "negative(swish(f))"),
    ("mul(f,tanh(softplus(f)))", "mish(f)"),
    ("div(f,add(1,abs(f)))", "softsign(f)"),
    ("div(p,add(1,p))", "softsign(p)"),
    ("div(f,add(1,exp(negative(f))))", "swish(f)"),
    ("reciprocal(add(1,exp(negative(f))))", "sigmoid(f)"),
    ("reciprocal(add(1,exp(f)))", "sigmoid(negative(f))"),
    ("reciprocal(exp(negative(f)))", "exp(f)"),
    ("exp(log_sigmoid(f))", "sigmoid(f)"),
    ("exp(negative(softplus(f)))", "sigmoid(negative(f))"),
    ("sub(exp(f),1)", "expm1(f)"),
    ("add(-1,exp(f))", "expm1(f)"),
    ("add(1,expm1(f))", "exp(f)"),
    ("mul(exp(f),exp(g))", "exp(add(f,g))"),
    ("div(exp(f),exp(g))", "exp(sub(f,g))"),
    ("mul(f,exp(negative(g)))", "div(f,exp(g))"),
    ("div(f,exp(negative(g)))", "mul(f,exp(g))"),
    ("negative(softplus(negative(f)))", "log_sigmoid(f)"),
    ("negative(log_sigmoid(negative(f)))", "softplus(f)"),
    ("sub(log_sigmoid(f),log_sigmoid(negative(f)))", "f"),
    ("sub(softplus(f),softplus(negative(f)))", "f"),
    ("add(log_sigmoid(negative(f)),f)", "log_sigmoid(f)"),
    ("add(softplus(negative(f)),f)", "softplus(f)"),
    ("sub(1,sigmoid(f))", "sigmoid(negative(f))"),
    ("sub(1,hard_sigmoid(f))", "hard_sigmoid(negative(f))"),
    ("sub(mul(2,sigmoid(mul(2,f))),1)", "tanh(f)"),
    ("sub(1,erf(f))", "erfc(f)"),
    ("sub(1,erfc(f))", "erf(f)"),
    ("add(1,erf(f))", "erfc(negative(f))"),
    ("sub(2,erfc(f))", "erfc(negative(f))"),
    ("add(exp(f),exp(negative(f)))", "mul(2,cosh(f))"),
    ("sub(exp(f),exp(negative(f)))", "mul(2,sinh(f))"),
    ("add(cosh(f),sinh(f))", "exp(f)"),
    ("sub(cosh(f),sinh(f))", "exp(negative(f))"),
    ("div(sinh(f),cosh(f))", "tanh(f)"),
    ("sinh(arcsinh(f))", "f"),
    ("arcsinh(sinh(f))", "f"),
)

_ODD = ("erf", "sinh", "tanh", "arcsinh", "arctan", "bessel_i1e", "softsign")
_EVEN = ("cosh", "bessel_i0e")
_SYMMETRIES = (
    *((f"negative({name}(negative(f)))", f"{name}(f)") for name in _ODD),
    *((f"{name}(negative(f))", f"{name}(f)") for name in _EVEN),
    *((f"{name}(abs(f))", f"{name}(f)") for name in _EVEN),
    *((f"square({name}(negative(f)))", f"square({name}(f))") for name in _ODD),
)

IDENTITIES: tuple[tuple[str, str], ...] = (
    *_NEUTRAL,
    *_SIGNS,
    *_SUMS,
    *_PRODUCTS,
    *_POWERS,
    *_KINKS,
    *_EXPONENTIALS,
    *_SYMMETRIES,
)
"""Every identity, in the order in which they are tried."""

NEVER_NEGATIVE = frozenset(
    {
        *("abs", "square", "exp", "cosh", "sigmoid", "bessel_i0e"),
        *("relu", "softplus", "hard_sigmoid", "erfc"),
    }
)
"""Operators whose values are never negative."""

KEEP_SIGN = frozenset(
    {
        *("identity", "reciprocal", "erf", "sinh", "tanh", "expm1", "arcsinh", "arctan"),
        *("bessel_i1e", "elu", "selu", "swish", "softsign", "elish", "gelu", "leakyrelu", "mish"),
        *("add", "mul", "div", "min", "sum_n", "prod_n", "min_n"),
    }
)
"""Operators whose values are not negative where none of their arguments is."""

ONE_IS_ENOUGH = frozenset({"max", "max_n"})
"""Operators whose values are not negative where one of their arguments is not."""
