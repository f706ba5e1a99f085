"""Public testing tools: equivariance errors, a contract for models, and negative controls."""

from se3t.testing.contract import ModelContract as ModelContract
from se3t.testing.controls import CONTROLS as CONTROLS
from se3t.testing.controls import Control as Control
from se3t.testing.equivariance import TRANSFORMS as TRANSFORMS
from se3t.testing.equivariance import assert_equivariant as assert_equivariant
from se3t.testing.equivariance import equivariance_error as equivariance_error
from se3t.testing.equivariance import equivariance_error_per_channel as equivariance_error_per_channel
