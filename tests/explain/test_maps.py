"What a folder of maps tells: the answer as `predict` gives it, and which output is drawn"
import cv2, numpy as np, pandas as pd, pytest, torch
from fastcore.basics import chunked
from fundus_fastai.core import DataError
from fundus_fastai.explain import maps as page
from fundus_fastai.explain.maps import explain_images, pick_images
from fundus_fastai.vision.data import eye_dls
from fundus_fastai.vision.learner import eye_learner
from fundus_fastai.vision.outputs import BothOutput, ClassOutput, LabelsOutput, NumberOutput, OrderedOutput
from nets import frame, tiny

torch.set_num_threads(1)

def learner(answer, to):
    "An untrained net that answers so, and its pictures"
    torch.manual_seed(0)
    df = frame()
    for k,im in enumerate(df.path): cv2.imwrite(str(to/f'{k}.png'), im)
    df['path'] = [str(to/f'{k}.png') for k in range(len(df))]
    df = df.assign(label=np.linspace(0, 4, len(df))) if answer.kind.numeric else df.assign(**{k:[0,1]*6 for k in 'abc'}, age=50., label=['a','b']*6)
    return eye_learner(eye_dls(df, size=32, bs=4, workers=0, output=answer), tiny, weights=None),df.path.tolist()[:6]

CASES = [(ClassOutput(['a','b']), {}), (LabelsOutput(list('abc')), {}), (NumberOutput(['age'], 60, 10), dict(digits=2)),
         (OrderedOutput(['grade'], 1.5, .8), dict(cuts=[.2,.9,1.45,1.55])), (BothOutput(['a','b'], 60, 10), {})]

@pytest.mark.parametrize('answer,op', CASES, ids=lambda o: getattr(getattr(o, 'kind', ''), 'name', ''))
def test_the_answer_is_that_of_predict(answer, op, tmp_path):
    learn,paths = learner(answer, tmp_path)
    p = learn.predict_frame(paths)
    if answer.kind.labels: op = dict(thresholds={k:float(p[f'p_{k}'].quantile(q)) for k,q in zip('abc', (.4,.7,.9))})
    learn.config = dict(operating=op)
    t = explain_images(learn, paths, tmp_path/'maps', method='grad_cam')
    assert t.answer.tolist()==answer.kind.decode(p, op).tolist() and set(t.of)<={*answer.names}
    if not answer.kind.labels: return
    def odds(v): return v/(1-v)
    over = pd.DataFrame({k:odds(p[f'p_{k}'])/odds(v) for k,v in op['thresholds'].items()})
    assert t.of.tolist()==over.idxmax(axis=1).tolist() and 'none' in t.answer.tolist() and t.answer.nunique()>2
    assert all(o in a.split(' + ') for o,a in zip(t.of, t.answer) if a!='none')

def test_a_stop_leaves_no_map_that_no_table_names(tmp_path, monkeypatch):
    "Maps of an earlier table stay until the first rows of the next, which forget them, and go with these"
    learn,paths = learner(ClassOutput(['a','b']), tmp_path)
    out,plain,n = tmp_path/'maps',page._make_maps,[0]
    def there(): return {o.stem[0] for o in out.glob('*.npz')},{o[0] for o in pd.read_csv(out/'maps.csv')['map']}
    def stop(*args, **kwargs):
        if n[0]==left: raise KeyboardInterrupt
        n[0] += 1
        return plain(*args, **kwargs)
    explain_images(learn, paths[:2], out, method='grad_cam')
    monkeypatch.setattr(page, 'chunked', lambda items, _: chunked(items, 1))
    monkeypatch.setattr(page, '_make_maps', stop)
    for left,want in ((0,{'0','1'}), (1,{'2'})):
        with pytest.raises(KeyboardInterrupt): explain_images(learn, paths[2:], out, method='grad_cam')
        assert there()==(want,want)

def test_a_report_reads_labels_at_their_thresholds():
    t = pd.DataFrame(dict(path=['1','2'], patient=['1','2'], eye=None, target_a=[1,1], p_a=[.3,.1], target_b=[0,0], p_b=[.2,.6]))
    assert sorted(pick_images(t).guess)==['not a','not a']
    assert dict(pick_images(t, op=dict(thresholds=dict(a=.2)))[['path','guess']].to_numpy())=={'1':'a','2':'not a'}

@pytest.mark.parametrize('how,words', [(dict(method='hue_gradient', window=20), '`window` is for `method=.occlusion'), (dict(method='rise', fill='blur', bs=3), '`fill` and `bs` are for'),
                                       (dict(window=0), '`window` is to be at least 1, not 0'), (dict(window=(0,8)), '`window` is to be at least 1'), (dict(stride=0), '`stride` is to be at least 1'),
                                       (dict(bs=0), '`bs` is to be at least 1, not 0'), (dict(window=8, stride=9), 'choose at most 8')], ids=str)
def test_what_cannot_be_done_is_refused(how, words, tmp_path):
    learn,paths = learner(ClassOutput(['a','b']), tmp_path)
    with pytest.raises(DataError, match=words): explain_images(learn, paths, tmp_path/'maps', **how)
    assert not (tmp_path/'maps').exists()

def test_a_map_takes_the_place_of_no_other_picture_s(tmp_path):
    "Where a folder is gone on with: its own file again, or a name that nothing there bears"
    kept = {'/a/x.png':'x_rise.npz', '/q/y.png':'b_x_rise.npz', '/q/z.png':'b_x_2_rise.npz'}
    files = page.map_files(['/b/x.png','/a/x.png','/c/x.png','/b/../b/x.png'], tmp_path, {k:dict(map=v) for k,v in kept.items()}, method='rise')
    assert {k:f.name for k,f in files.items()}=={'/b/../b/x.png':'b_x_3_rise.npz', '/a/x.png':'x_rise.npz', '/c/x.png':'c_x_rise.npz'}

def test_windows_may_be_wider_than_high(tmp_path):
    learn,paths = learner(ClassOutput(['a','b']), tmp_path)
    with pytest.raises(DataError, match=r'choose at most \(8, 16\)'): explain_images(learn, paths, tmp_path/'maps', window=(8,16), stride=(4,17))
    explain_images(learn, paths[:1], tmp_path/'maps', window=(8,16))
    made,asked = page.load_map(next((tmp_path/'maps').glob('*.npz'))),learn.occlude(paths[:1], (8,16), progress=False)
    assert (tuple(made['window']),tuple(made['stride']))==((8,16),(4,8)) and np.allclose(made['map'], asked.map[0].numpy(), atol=1e-6)
