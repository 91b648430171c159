"How often a file is opened, and how often somebody looks for the eye in it: counted through the commands themselves"
import contextlib, io, os
from collections import Counter
import cv2, numpy as np, pandas as pd, pytest
import fundus_fastai.image.read as read, fundus_fastai.image.recipe as recipe
from fundus_fastai.cli import main
from fundus_fastai.phantom.fundus import phantom_fundus
from fundus_fastai.phantom.oct import phantom_oct
from fundus_fastai.run.benchmark import pick_lesions
from fundus_fastai.vision.data import eye_dls
from fundus_fastai.vision.learner import eye_learner
from fundus_fastai.vision.model import save_model

SIZE = 48 # pixels of the net; a JPEG is decoded smaller while its shorter side stays at 96 and more

def write(files, ims):
    for f,o in zip(files, ims): cv2.imwrite(str(f), o if o.ndim==2 else o[...,::-1])
    return [str(f) for f in files]

@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    "Two JPEGs that are decoded at half size, and a PNG, which is not"
    d = tmp_path_factory.mktemp('photos')
    return write([d/'a.jpg', d/'b.jpg', d/'c.png'], [phantom_fundus(seed=1, patient=i, size=256).image for i in range(3)])

@pytest.fixture(scope='module')
def scans(tmp_path_factory):
    d = tmp_path_factory.mktemp('scans')
    return write([d/f'{o}.jpeg' for o in 'ab'], [phantom_oct('DME', seed=i).image for i in range(2)])

def saved(out, files, image, task, **kwargs):
    df = pd.DataFrame(dict(path=files*2, label=['a','b']*len(files), split=(['train']*len(files)+['valid']*len(files)), patient=range(2*len(files))))
    learn = eye_learner(eye_dls(df, image=image, size=SIZE, bs=2, workers=0, **kwargs), 'test_resnet', weights='none')
    save_model(learn, out, task, source='phantom')
    return str(out)

@pytest.fixture(scope='module')
def runs(tmp_path_factory, photos, scans):
    d = tmp_path_factory.mktemp('runs')
    return dict(photos=saved(d/'photos', photos, 'fundus', 'anomaly', recipe='color'), scans=saved(d/'scans', scans, 'oct', 'oct'))

@pytest.fixture
def count(monkeypatch):
    "Opens by file, and the number of searches"
    opens,searches = Counter(),Counter()
    def opened(path, *args, _open=read.open_image):
        opens[os.path.basename(path)] += 1
        return _open(path, *args)
    def sought(im, *args, _find=recipe.field_of_view, **kwargs):
        if min(im.shape[:2])>32: searches['all'] += 1 # smaller ones are the gray discs by which `load_model` builds its loaders
        return _find(im, *args, **kwargs)
    monkeypatch.setattr(read, 'open_image', opened)
    monkeypatch.setattr(recipe, 'field_of_view', sought)
    return opens,searches

def fundus(*argv):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err: status = main([str(o) for o in argv])
    return status,out.getvalue(),err.getvalue()

def test_predict_opens_a_file_once(runs, photos, scans, count):
    opens,searches = count
    assert fundus('predict', runs['photos'], *photos)[0]==0
    assert opens=={'a.jpg':1, 'b.jpg':1, 'c.png':1} and searches['all']==3
    opens.clear(); searches.clear()
    assert fundus('predict', runs['scans'], *scans)[0]==0
    assert opens=={'a.jpeg':1, 'b.jpeg':1} and not searches

@pytest.mark.parametrize('method', ['occlusion','grad_cam'])
def test_explain_opens_a_file_at_most_twice(runs, photos, scans, count, tmp_path, method):
    opens,searches = count
    assert fundus('explain', runs['photos'], *photos, '--method', method, '--out', tmp_path/'a')[0]==0
    assert opens=={'a.jpg':2, 'b.jpg':2, 'c.png':1} and searches['all']==3
    opens.clear(); searches.clear()
    assert fundus('explain', runs['scans'], *scans, '--method', method, '--out', tmp_path/'b')[0]==0
    assert max(opens.values())<=2 and not searches
    opens.clear()
    assert fundus('explain', runs['scans'], *scans, '--method', method, '--out', tmp_path/'b', '--resume')[0]==0
    assert not opens, "finished maps need no picture"

def test_odd_files_are_told_as_they_are_opened(runs, photos, count, tmp_path):
    opens,_ = count
    (bad := tmp_path/'bad.png').write_bytes(b'none'); cv2.imwrite(str(dark := tmp_path/'dark.png'), np.zeros((99,99,3), np.uint8))
    status,out,err = fundus('predict', runs['photos'], bad, photos[0], dark)
    assert status==1 and out.count('\n')==4 and '1 image could not be read' in err
    assert f'{bad} is not an image' in err and f'{dark} shows no visible field (it is nearly black, or blank); it gets no answer' in err
    assert opens=={'bad.png':1, 'a.jpg':1, 'dark.png':1}
    status,out,err = fundus('explain', runs['photos'], bad, photos[0], '--out', tmp_path/'maps')
    assert status==1 and pd.read_csv(tmp_path/'maps'/'maps.csv').path.tolist()==[photos[0]] and '1 image could not be read' in err
    status,out,err = fundus('explain', runs['photos'], bad, '--out', tmp_path/'none')
    assert status==1 and '1 of 1 images cannot be read' in err and not (tmp_path/'none').exists()

def test_a_folder_is_walked_without_what_jupyter_left(runs, scans, tmp_path):
    for o in ('a.jpeg','.ipynb_checkpoints/a.jpeg','__MACOSX/a.jpeg'):
        (tmp_path/o).parent.mkdir(exist_ok=True); (tmp_path/o).write_bytes(open(scans[0], 'rb').read())
    status,out,_ = fundus('predict', runs['scans'], tmp_path)
    assert status==0 and [o.split(',')[0] for o in out.splitlines()[1:]]==[str(tmp_path/'a.jpeg')]

def test_the_size_of_the_input_is_known(photos, count):
    opens,_ = count
    df = pd.DataFrame(dict(path=photos*2, label=['a','b']*3, split=['train']*3+['valid']*3, patient=range(6)))
    learn = eye_learner(eye_dls(df, image='fundus', recipe='color', size=SIZE, bs=2, workers=0), 'test_resnet', weights='none')
    opens.clear()
    assert learn.size==SIZE and not opens

def test_a_picked_lesion_is_not_opened_to_learn_the_size(tmp_path, count):
    from fundus_fastai.data.catalog import make_phantom
    from fundus_fastai.vision.steps import load_frame, split_frame
    opens,_ = count
    df = split_frame(load_frame('oct', make_phantom('kermany2018', tmp_path/'oct', patients=12, seed=0)))
    learn = eye_learner(eye_dls(df, size=SIZE, bs=8, workers=0), 'test_resnet', weights='none')
    opens.clear()
    pick_lesions(learn, df, tmp_path/'oct', n=4)
    assert max(opens.values())==1
