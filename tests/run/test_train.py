"Training in one call: with pictures that were decoded once it leaves the same run"
from pathlib import Path
import pandas as pd, pytest
from fundus_fastai.cli import main
from fundus_fastai.image import cache
from fundus_fastai.vision.data import OpenEye

@pytest.mark.parametrize('task,more', [('oct', ['--balance','sample']), ('anomaly', [])])
def test_a_cached_run_is_the_same_run(tmp_path, monkeypatch, task, more):
    "Scans and photographs: history, validation and predictions to the byte; the second cached run decodes next to nothing"
    monkeypatch.setenv('FUNDUS_DATA', str(tmp_path/'data'))
    words = ['train', task, '--arch', 'test_resnet', '--weights', 'none', '--size', '32', '--epochs', '2', '--bs', '8', '--patients', '14',
             '--maps', '0', '--seed', '1', '--workers', '0', *more]
    read,asked = OpenEye.eye,[]
    monkeypatch.setattr(OpenEye, 'eye', lambda self, o: asked.append(o) or read(self, o))
    counts = []
    for name,how in dict(plain=[], first=['--cache'], second=['--cache']).items():
        asked.clear()
        assert main([*words, *how, '--out', tmp_path/name])==0
        counts.append(len([o for o in asked if isinstance(o, (str,Path))]))
    for f in ('predictions.csv','validation.csv','metrics.json','split.csv'):
        assert len({(tmp_path/o/f).read_bytes() for o in ('plain','first','second')})==1, f
    losses = [pd.read_csv(tmp_path/o/'history.csv').drop(columns='seconds') for o in ('plain','first','second')]
    assert losses[0].equals(losses[1]) and losses[0].equals(losses[2])
    n = len(pd.read_csv(tmp_path/'plain'/'split.csv'))
    assert counts[0]>1.8*n and counts[1]<n+20 and counts[2]<20
    assert len([*(tmp_path/'data'/'cache').iterdir()])==1
