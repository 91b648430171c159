"Training in one call: with pictures that were decoded once it leaves the same run"
from functools import partial, partialmethod
from pathlib import Path
from types import SimpleNamespace
import os, shutil, signal, subprocess, sys, time
import cv2, pandas as pd, pytest
from fastai.callback.core import Callback
from fundus_fastai.cli import main
from fundus_fastai.core import DataError, LeakError, read_json, write_json
from fundus_fastai.image import cache
from fundus_fastai.options import CompareOptions, DataOptions, TrainOptions, UnseenOptions
from fundus_fastai.vision.data import OpenEye
from fundus_fastai.vision.learner import EyeLearner
from fundus_fastai.vision.steps import fit_run
from fundus_fastai.explain.sparse import SparseMaps
from fundus_fastai.run import compare, train
from fundus_fastai.run.folder import drop_checkpoints, only_writer
from fundus_fastai.data.catalog import make_phantom
from fundus_fastai.run.train import as_it_knows, dealt_frame, demand_same, train_frame, train_run

@pytest.mark.parametrize('task,more', [('oct', ['--balance','sample']), ('anomaly', [])])
def test_a_cached_run_is_the_same_run(tmp_path, monkeypatch, light, task, more):
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

class PullThePlug(Callback):
    "Ctrl-C while the second strength is tried"
    def after_batch(self):
        maps = getattr(self.learn, 'sparse_maps', None)
        if self.training and maps and maps.nu==.003: raise KeyboardInterrupt

def test_trained_maps_are_told_and_resumed_to_the_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(SparseMaps, '__init__', partialmethod(SparseMaps.__init__, engine='difference')) # the faster one here
    monkeypatch.setattr(EyeLearner, 'fit_sparse', partialmethod(EyeLearner.fit_sparse, nus=(.001,.003), worth=9))
    opts = TrainOptions('test_resnet', weights='none', size=32, epochs=1, freeze_epochs=0, bs=8, workers=0, maps_trained=True).settled()
    df = dealt_frame('oct', DataOptions(patients=12))
    def run(name, **kwargs): return train_frame(df, 'oct', opts, out=tmp_path/name, **kwargs)
    _,hist,s = run('a')
    def plugged(learn, *args, **kwargs): return fit_run(learn.add_cb(PullThePlug()), *args, **kwargs)
    with pytest.raises(KeyboardInterrupt): run('b', fit=plugged)
    again = run('b', resume=True)[1]
    assert again.drop(columns='seconds').equals(hist.drop(columns='seconds')) and hist.stage.tolist()==["all","nu 0.001","nu 0.003"]
    for f in ('model.safetensors','validation.csv','predictions.csv'): assert (tmp_path/'a'/f).read_bytes()==(tmp_path/'b'/f).read_bytes(), f
    told = read_json(tmp_path/'a'/'config.json')['training']
    assert told['maps']['nu']==.003 and [o['nu'] for o in told['maps']['tried']]==[.001,.003] and told['maps_trained']==True and told['fit']=='tune'
    assert 'nu 0.003 of 0.001, 0.003 tried is the largest' in (tmp_path/'a'/'report.html').read_text() and 'nu 0.003 of' in s.note
    assert pd.read_csv(tmp_path/'a'/'history.csv').map_size.notna().sum()==2
    assert [*(tmp_path/'a'/'checkpoints').rglob('last.*')]
    drop_checkpoints(tmp_path/'a') # or a later run would go on with those
    assert not (tmp_path/'a'/'checkpoints').exists()

def test_training_knows_sparse_maps_by_itself():
    "In a process of its own: the method is another page's"
    ask = 'import fundus_fastai.run.train; from fundus_fastai.vision.learner import EyeLearner; EyeLearner.fit_sparse'
    assert subprocess.run([sys.executable, '-W', 'ignore', '-c', ask], capture_output=True).returncode==0

def test_a_finished_run_answers_for_itself_alone(tmp_path, light):
    "Another task, other phantoms or a changed table are not met with its scores"
    def run(task='oct', data=None, **kwargs): return train_run(task, data or DataOptions(patients=12), opts, out=tmp_path/'run', maps=0, **kwargs)
    opts = TrainOptions('test_resnet', weights='none', size=32, epochs=1, freeze_epochs=0, bs=8, workers=0)
    first = run()
    assert run(resume=True).metrics['accuracy'].value==first.metrics['accuracy'].value
    with pytest.raises(DataError, match='finished, with task oct, not laterality'): run('laterality', resume=True)
    with pytest.raises(DataError, match='with patients 12, not 30'): run(data=DataOptions(patients=30), resume=True)
    df = dealt_frame('oct', DataOptions(patients=12))
    df[['path','label','patient','split']].to_csv(tmp_path/'t.csv', index=False)
    with pytest.raises(DataError, match='with table phantom, not t.csv'): run(data=DataOptions(tmp_path/'t.csv'), resume=True)
    run(data=DataOptions(tmp_path/'t.csv'), force=True)
    df[['path','label','patient','split']][1:].to_csv(tmp_path/'t.csv', index=False)
    with pytest.raises(DataError, match='with sha256 .*, not '): run(data=DataOptions(tmp_path/'t.csv'), resume=True)

def swapped(folder):
    "Other pictures under the same names"
    for f in folder.rglob('*.j*g'): f.write_bytes(cv2.imencode('.jpg', 255-cv2.imread(str(f)))[1].tobytes())

@pytest.mark.skipif(os.name=='nt', reason='no locks of folders')
def test_one_folder_is_trained_into_by_one(tmp_path, monkeypatch):
    "Two left the net of one beside the split of the other, and it was scored on patients it had been taught by"
    monkeypatch.setattr(train, 'only_writer', partial(only_writer, patience=0))
    monkeypatch.setattr(compare, 'only_writer', partial(only_writer, patience=0))
    run,data,net = tmp_path/'run',DataOptions(patients=24),TrainOptions('test_resnet', weights='none', size=32)
    with only_writer(run):
        for how in ({},dict(force=True),dict(resume=True)):
            with pytest.raises(DataError, match='another program is writing into .*run'): train_run('oct', data, net, out=run, **how)
        assert not [*run.iterdir()]
    with only_writer(tmp_path/'nets'), pytest.raises(DataError, match='another program is writing'):
        compare.compare_run('oct', ['test_resnet'], data, opts=CompareOptions(weights='none', size=32, epochs=1), out=tmp_path/'nets')
    assert not run.exists()

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no forks')
def test_loaders_that_outlive_a_training_hold_nothing(tmp_path):
    "As after Ctrl-C in a notebook, whose traceback keeps them"
    with only_writer(tmp_path/'run'):
        if not (pid := os.fork()): time.sleep(60); os._exit(0)
    try:
        with only_writer(tmp_path/'run', patience=0): pass
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

def test_pictures_that_changed_are_no_picture_of_the_run(tmp_path, light):
    "Under the names of a run that was begun, or is finished: a net would learn from others than its split.csv vouches for"
    make_phantom('kermany2018', tmp_path/'k', patients=12)
    opts = TrainOptions('test_resnet', weights='none', size=32, epochs=1, freeze_epochs=0, bs=8, workers=0)
    def run(**kwargs): return train_run('oct', DataOptions(tmp_path/'k'), opts, out=tmp_path/'run', maps=0, **kwargs)
    def plugged(learn, *args, **kwargs): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): run(fit=plugged)
    shutil.copytree(tmp_path/'k', tmp_path/'kept')
    swapped(tmp_path/'k')
    with pytest.raises(DataError, match=r'pictures in .*k are not those that .*run was begun with'): run(resume=True)
    shutil.rmtree(tmp_path/'k'); shutil.copytree(tmp_path/'kept', tmp_path/'k')
    first = run(resume=True)
    assert run(resume=True).metrics['accuracy'].value==first.metrics['accuracy'].value
    swapped(tmp_path/'k')
    with pytest.raises(DataError, match=r'16 of 16 pictures in .*k are not those'): run(resume=True)

def test_classes_that_another_hospital_spells_otherwise(tmp_path, capsys):
    df = pd.DataFrame(dict(path=['a','b','c'], label=['Gesund','amd','DR']))
    out = SimpleNamespace(columns=['label'], names=['gesund','AMD','DR'])
    assert as_it_knows(df, out).label.tolist()==['gesund','AMD','DR'] and "'Gesund' as 'gesund'" in capsys.readouterr().err
    assert as_it_knows(df[2:], out) is not None and not capsys.readouterr().err

@pytest.mark.parametrize('again,why', [(dict(label='two'), 'label label, not two'), (dict(recipe='green'), 'recipe crop, not crop,channel'),
    (dict(positive='female'), 'positive b, not female'), (dict(weights='x.npz'), 'weights none, not x.npz'), (dict(split='published'), 'split own, not published')])
def test_a_finished_run_answers_what_it_was_asked(tmp_path, again, why):
    "What the call leaves to its default is no objection; what it names is"
    write_json(tmp_path/'config.json', dict(task='anomaly', label='label', operating=dict(positive='b'), provenance=dict(table='t'),
                                            training=dict(recipe='crop', weights='none', split='own')))
    def resumed(label=None, split='patients', **kwargs):
        demand_same(tmp_path, 'anomaly', DataOptions('t', label=label), opts=TrainOptions('test_resnet', **kwargs), split=split)
    for how in ({}, dict(label='label'), dict(recipe='color', positive='b', weights='none'), dict(split='own')): resumed(**how)
    with pytest.raises(DataError, match=why): resumed(**again)

def test_a_frame_is_no_source_of_a_run():
    "A run reads its images again, from a place that it can name"
    for way in (DataOptions, UnseenOptions.of, lambda df: train_run('sex', df)):
        with pytest.raises(DataError, match=r"not a DataFrame: name a file .*to_csv\('my.csv', index=False\)"): way(pd.DataFrame(dict(path=['a.png'])))

def test_epochs_that_nobody_asked_for_follow_from_the_images(tmp_path, light, capsys):
    "A net without weights takes 600 steps where it may: what was decided is told, handed on, and kept in the record"
    opts,seen = TrainOptions('test_resnet', weights='none', size=32, bs=2, workers=0),[]
    def fit(learn, out, opts, **kwargs): seen.append(opts.epochs); return fit_run(learn, out, opts.but(epochs=1), **kwargs)
    train_run('oct', DataOptions(patients=30), opts, maps=0, out=tmp_path/'run', fit=fit)
    n = len(pd.read_csv(tmp_path/'run/split.csv').query("split=='train'"))
    wanted = -(-600//-(-n//2))
    assert 5<wanted<40 and seen==[wanted] and f', {wanted} epochs, ' in capsys.readouterr().err
    assert read_json(tmp_path/'run/config.json')['training']['epochs']==wanted

def test_who_calls_the_fit_alone_names_no_epochs_either(tmp_path, monkeypatch):
    df = dealt_frame('oct', DataOptions(patients=12))
    opts,plans = TrainOptions('test_resnet', weights='none', size=32, bs=8, workers=0).settled(),[]
    learn = train.run_learner(df, 'oct', opts)
    monkeypatch.setattr(learn, 'fit_eye', lambda plan, *args, **kwargs: plans.extend(plan) or pd.DataFrame())
    fit_run(learn, tmp_path, opts)
    assert [o['epochs'] for o in plans]==[40]

def test_a_published_split_that_leaks_is_refused_unless_asked_for():
    with pytest.raises(LeakError, match='both train and test'): dealt_frame('oct', DataOptions(patients=12), 'published')
    df = dealt_frame('oct', DataOptions(patients=12), 'published', allow_leak=True)
    assert df.groupby('patient').split.nunique().max()>1
