"""Configurations: their schemas, and the way from settings to a checked one. Imports neither torch nor hydra."""

from __future__ import annotations

from se3t.config.choices import (
    choices as choices,
    conf_dir as conf_dir,
    conf_file as conf_file,
    extend as extend,
)
from se3t.config.fields import rotation_angle as rotation_angle
from se3t.config.models import (
    DeepSetModel as DeepSetModel,
    DGCNNModel as DGCNNModel,
    LinearModel as LinearModel,
    ModifiedFisherModel as ModifiedFisherModel,
    MPNNModel as MPNNModel,
    PointCNNModel as PointCNNModel,
    PointGLRModel as PointGLRModel,
    PointNet2Model as PointNet2Model,
    PointNetModel as PointNetModel,
    SchNetModel as SchNetModel,
    SE3TransformerModel as SE3TransformerModel,
    SetTransformerModel as SetTransformerModel,
    SpiderCNNModel as SpiderCNNModel,
    TFNModel as TFNModel,
)
from se3t.config.schemas import (
    SCHEMAS as SCHEMAS,
    TARGETS as TARGETS,
    targets_of as targets_of,
    ClassificationTask as ClassificationTask,
    Config as Config,
    EvalConfig as EvalConfig,
    EvalTrainer as EvalTrainer,
    LoggerConfig as LoggerConfig,
    MoleculesData as MoleculesData,
    NBodyData as NBodyData,
    NBodyTask as NBodyTask,
    OptimConfig as OptimConfig,
    PropertyTask as PropertyTask,
    QM9Data as QM9Data,
    ScanObjectNNData as ScanObjectNNData,
    Shapes15Data as Shapes15Data,
    TrainerConfig as TrainerConfig,
)
from se3t.config.settings import setting_names as setting_names
from se3t.config.validation import (
    to_config as to_config,
    to_eval_config as to_eval_config,
    model_settings as model_settings,
    validate as validate,
)
