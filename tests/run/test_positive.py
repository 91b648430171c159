"The positive class of a run, and the unit of its numbers: chosen, refused, kept and told"
import pytest
from fundus_fastai.core import DataError, EyeError, read_json
from fundus_fastai.options import DataOptions, TrainOptions
from fundus_fastai.run.folder import choose_operating_points
from fundus_fastai.run.train import evaluate_run, train_run
from fundus_fastai.score.scores import score
from made import numbers_table

def trained(out, task='anomaly', **kwargs):
    opts = TrainOptions(arch='test_efficientnet', weights='none', size=32, epochs=1, freeze_epochs=0, bs=8, workers=0, **kwargs)
    return train_run(task, DataOptions('phantom', patients=24), opts, maps=0, out=out)

def test_a_run_keeps_and_tells_its_positive_class(tmp_path):
    s = trained(tmp_path/'r')
    config = read_json(tmp_path/'r'/'config.json')
    assert s.positive==config['operating']['positive']=='abnormal'
    assert 'positive: abnormal' in (tmp_path/'r'/'README.md').read_text()
    assert '<dt>positive</dt><dd>abnormal</dd>' in (tmp_path/'r'/'report.html').read_text()
    e = evaluate_run(tmp_path/'r', maps=0, out=tmp_path/'e')
    assert e.positive=='abnormal' and 'Positive is' not in e.note

def test_a_class_may_be_named(tmp_path, monkeypatch):
    assert trained(tmp_path/'r', positive='normal').positive=='normal'
    assert read_json(tmp_path/'r'/'metrics.json')['operating']==dict(positive='normal')
    monkeypatch.setattr('fundus_fastai.vision.data.open_cache', lambda *args, **kwargs: pytest.fail("decoded before the question was looked at"))
    with pytest.raises(EyeError, match='abnormal'): trained(tmp_path/'w', positive='abnorml', cache=True)
    with pytest.raises(DataError, match='two classes'): trained(tmp_path/'v', 'oct', positive='CNV')
    assert not (tmp_path/'w').exists() and not (tmp_path/'v').exists() # refused before training

def test_a_task_knows_the_unit_of_its_numbers():
    op = choose_operating_points(None, 'age', numbers_table(seed=1))
    assert op['unit']=='years' and score(numbers_table(), None, op, n_boot=5).metrics['mae'].unit=='years'
