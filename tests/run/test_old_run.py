"A run folder made before the rooms were rebuilt (version 0.1.0, commit 783e2fb) is still a run: it predicts, evaluates, explains and reports"
import json, shutil
from pathlib import Path
import numpy as np, pandas as pd, pytest, torch
from fundus_fastai.cli import main
from fundus_fastai.core import DataError, read_json
from fundus_fastai.explain.occlusion import load_map
from fundus_fastai.options import TrainOptions, UnseenOptions
from fundus_fastai.run.report import remake_report
from fundus_fastai.run.train import evaluate_run, explain_run, predict_run, train_run
from fundus_fastai.score.kinds import read_predictions

torch.set_num_threads(1)
HERE = Path(__file__).parent/'old_run'
SCANS = HERE/'scans' # phantoms that it has learned from, and been tested on

@pytest.fixture
def run(tmp_path): return Path(shutil.copytree(HERE/'run', tmp_path/'run'))

def answers(df): return df.filter(like='p_').to_numpy(float)

def same_metrics(a, b):
    a,b = (read_json(o/'metrics.json') for o in (a,b))
    assert [a[k] for k in ('n_images','n_patients')]==[b[k] for k in ('n_images','n_patients')]
    assert 'operating' not in a and b['operating']==dict(positive='NORMAL') # the last of the alphabet, as it meant
    assert b['note'].startswith(a['note']) and 'Positive is NORMAL' in b['note']
    assert a['metrics'].keys()==b['metrics'].keys()
    none = 'no interval: 2 patients' # so few have none by draws, as is said since; a temperature stands at the bound of its search
    said = dict(accuracy='Wilson (2 patients)', temperature=f'validation (2 patients), {none}, no result: at the bound of the search')
    for k in ('accuracy','mcc','brier','ece','temperature'):
        a['metrics'][k] = dict(value=a['metrics'][k]['value'], method=said.get(k, none))
        assert (b['metrics'][k]['low'] is None)==(k!='accuracy')
    for k,o in a['metrics'].items():
        assert {n:v for n,v in b['metrics'][k].items() if isinstance(v, str)}=={n:v for n,v in o.items() if isinstance(v, str)}, k
        for n in ('value','low','high'):
            if n in o: assert b['metrics'][k][n]==(o[n] if o[n] is None else pytest.approx(o[n], abs=1e-5)), (k, n)

def test_it_predicts_what_it_predicted(run):
    old = read_predictions(run/'predictions.csv')
    new = predict_run(run, [SCANS/o for o in old.path])
    assert np.allclose(answers(new), answers(old), atol=1e-5) and new.attrs['unread']==0

def test_its_metrics_come_again_from_new_predictions(run, tmp_path):
    "The same data: its own test patients are evaluated"
    evaluate_run(run, UnseenOptions(SCANS), maps=1, out=tmp_path/'again')
    same_metrics(run, tmp_path/'again')
    assert 'PHANTOM' in (tmp_path/'again'/'report.html').read_text()

def test_it_explains(run, tmp_path):
    t = explain_run(run, [next(SCANS.rglob('*.jpeg'))], window=8, stride=8, out=tmp_path/'maps')
    assert len(t) and {o.suffix for o in (tmp_path/'maps').iterdir()}=={'.csv','.npz','.png'}

def test_forced_maps_give_way_to_the_new(run, tmp_path):
    a,b = sorted(SCANS.rglob('*.jpeg'))[:2]
    for o in (a,b): t = explain_run(run, [o], 'grad_cam', out=tmp_path/'m', force=True)
    assert {o.name for o in (tmp_path/'m').iterdir()}=={'maps.csv',t['map'][0],t.overlay[0]}

def test_a_map_is_kept_for_its_own_picture(run, tmp_path):
    "not for one of the same name, of another patient, or one that was written over it"
    scans = sorted(SCANS.rglob('*.jpeg'))[:2]
    for k,o in enumerate(scans):
        (tmp_path/f'p{k}').mkdir()
        shutil.copy(o, tmp_path/f'p{k}'/'OD.jpeg')
    def asked(k, **kwargs): return explain_run(run, [tmp_path/f'p{k}'/'OD.jpeg'], window=8, stride=8, **kwargs)
    def scores(t): return t.filter(like='score_').to_numpy()
    a,b = (asked(k, out=tmp_path/f'm{k}') for k in (0,1))
    first = (tmp_path/'m0'/a['map'][0]).stat().st_mtime_ns
    assert (scores(asked(0, out=tmp_path/'m0', resume=True))==scores(a)).all() and (tmp_path/'m0'/a['map'][0]).stat().st_mtime_ns==first
    assert (scores(a)!=scores(b)).any() and np.allclose(scores(asked(1, out=tmp_path/'m0', resume=True)), scores(b))

def test_a_folder_of_maps_keeps_what_it_held(run, tmp_path):
    "its files, names and rows, whoever is asked next; and it holds maps that were made in one way"
    scans = sorted(SCANS.rglob('*.jpeg'))[:4]
    eyes = [tmp_path/f'p{k}'/'OD.jpeg' for k in range(4)]
    for o,eye in zip(scans, eyes): eye.parent.mkdir(); shutil.copy(o, eye)
    def asked(*k, out=tmp_path/'m', **kw): return explain_run(run, [eyes[i] for i in k], out=out, **(dict(window=8, stride=8)|kw))
    def held(out=tmp_path/'m'): return pd.read_csv(out/'maps.csv').set_index('path')
    def files(out=tmp_path/'m'): return {f.name:f.read_bytes() for f in out.iterdir() if f.suffix!='.csv'}
    first = asked(0)
    kept = files()
    assert first['map'].tolist()==['OD_occlusion.npz'] and len(asked(1, resume=True))==1
    assert held().index.tolist()==[str(o) for o in eyes[:2]] and held()['map'].tolist()==['OD_occlusion.npz','p1_OD_occlusion.npz']
    assert files().items()>kept.items() and held().filter(like='score_').iloc[0].tolist()==pytest.approx(first.filter(like='score_').iloc[0].tolist(), rel=1e-12)
    whole = files()
    asked(0, resume=True) # one of two
    assert files()==whole and len(held())==2
    asked(3, 1, 2, resume=True)
    assert files().items()>whole.items() and sorted(held().index)==[str(o) for o in eyes] and held()['map'].is_unique
    everything = files(),(tmp_path/'m'/'maps.csv').read_text()
    for how,word in ((dict(window=16), 'window'), (dict(stride=4), 'stride'), (dict(fill='zero'), 'fill'), (dict(method='grad_cam'), 'method')):
        how = how if word!='method' else how|dict(window=None, stride=None)
        with pytest.raises(DataError, match=f'was begun with {word}'): asked(0, resume=True, **how)
    assert (files(),(tmp_path/'m'/'maps.csv').read_text())==everything

def test_two_of_one_name_and_folder_are_told_apart(run, tmp_path):
    for o,to in zip(sorted(SCANS.rglob('*.jpeg')), ['a/p/OD.jpeg','b/p/OD.jpeg','c/p/OD.jpeg']):
        (tmp_path/to).parent.mkdir(parents=True)
        shutil.copy(o, tmp_path/to)
        explain_run(run, [tmp_path/to], method='grad_cam', out=tmp_path/'m', resume=True)
    names = pd.read_csv(tmp_path/'m'/'maps.csv')['map'].tolist()
    assert names==['OD_grad_cam.npz','p_OD_grad_cam.npz','p_OD_2_grad_cam.npz'] and all((tmp_path/'m'/o).exists() for o in names)

def test_parts_that_were_joined_are_gone_on_with(run, tmp_path):
    "Maps of a joined folder lie in those of its parts; whoever goes on keeps them, and a changed picture's is made anew where it lay"
    scans = [shutil.copy(o, tmp_path/f'{k}.jpeg') for k,o in enumerate(sorted(SCANS.rglob('*.jpeg'))[:4])]
    def asked(n, *more): assert main(['explain', run, *scans[:n], '--method', 'grad_cam', '--out', out, *more])==0
    out = tmp_path/'m'
    for k in (1,2): asked(3, '--shard', f'{k}/2')
    assert main(['gather', out/'1of2/maps.csv', out/'2of2/maps.csv', '--out', out/'maps.csv'])==0
    before = {o:o.read_bytes() for o in out.glob('*of2/*')}
    shutil.copy(scans[3], scans[1])
    asked(4, '--resume')
    t = pd.read_csv(out/'maps.csv')
    assert t['map'].tolist()==[f'{k}_grad_cam.npz' for k in ('1of2/0','2of2/1','1of2/2','3')] and t.overlay.tolist()==[o.replace('.npz', '.png') for o in t['map']]
    assert {o.name for o,v in before.items() if o.read_bytes()!=v}=={'1_grad_cam.npz','1_grad_cam.png'} and {o.name for o in out.iterdir()}=={'1of2','2of2','maps.csv','3_grad_cam.npz','3_grad_cam.png'}

def test_no_pixel_lies_between_windows(run, tmp_path):
    scan = next(SCANS.rglob('*.jpeg'))
    with pytest.raises(DataError, match='`stride` of 16 leaves .* choose at most 8'): explain_run(run, [scan], window=8, stride=16, out=tmp_path/'no')
    assert not (tmp_path/'no').exists()
    (tmp_path/'mine').mkdir()
    with pytest.raises(DataError, match='choose at most 8'): explain_run(run, [scan], window=8, stride=16, out=tmp_path/'mine')
    assert (tmp_path/'mine').exists(), 'what was there before is not ours to take away'
    assert explain_run(run, [scan], window=4, out=tmp_path/'maps').stride[0]==2 # by itself it is half a window
    assert (load_map(next((tmp_path/'maps').glob('*.npz')))['map']!=0).any(0).all()

def test_it_reports_again(run):
    before = HERE/'run'
    remake_report(run)
    same_metrics(before, run)
    html = (run/'report.html').read_text()
    assert 'PHANTOM' in html and 'test_efficientnet' in html and html.count('data:image/')>=4

def test_it_may_be_resumed(run):
    "It is finished (its report is not kept in the tests): the scores are shown again"
    remake_report(run)
    s = train_run('oct', SCANS, TrainOptions('test_efficientnet', weights='none'), out=run, resume=True)
    assert s.metrics['accuracy'].value==read_json(HERE/'run'/'metrics.json')['metrics']['accuracy']['value']

def test_a_finished_run_says_how_it_was_trained(run, capsys):
    remake_report(run)
    train_run('oct', SCANS, TrainOptions('test_efficientnet', weights='none', epochs=77), out=run, resume=True)
    assert 'not 77' in (err := capsys.readouterr().err) and '`force=True` trains anew' in err

def test_what_a_checkpoint_asks_for():
    "The same names and values as ever, or no earlier training could be gone on with"
    o = TrainOptions('resnet18', weights=Path('w.npz'), recipe='green', fit='probe')
    assert o.agree()==dict(arch='resnet18', weights='w.npz', size=None, bs=32, balance='none', recipe='green', fit='readout')
    assert o.planned(100).record()==o.agree()|dict(epochs=5, freeze_epochs=1, lr=None, seed=42)

def test_a_rate_is_kept_as_it_was_typed():
    from fundus_fastai.commands import number
    o = TrainOptions(lr=number('4e-3', 'lr'))
    assert o.record()['lr']=='4e-3' and o.lr==.004 and TrainOptions(lr=.004).record()['lr']==.004

@pytest.mark.parametrize('text', ['', 'epoch,train_loss\n1,"2', 'epoch,train_loss,valid_loss\n0,lots,.5\n', 'a,b\n1,2\n', b'\xff\xfe\x00'])
def test_a_spoiled_history_is_named(run, text):
    (run/'history.csv').write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match='history.csv'): remake_report(run)

@pytest.mark.parametrize('key,value', [('split',5), ('task',[1]), ('source',{}), ('n_boot','many'), ('operating',[]), ('note',3), ('arch',None)])
def test_spoiled_scores_are_named(run, key, value):
    m = read_json(run/'metrics.json')
    (run/'metrics.json').write_text(json.dumps(m | {key:value}))
    with pytest.raises(DataError, match=f'metrics.json.*{key}'): remake_report(run)
