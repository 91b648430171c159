"What a reviewer with a checklist asks of a report: who was tested, by what rule, out of how many"
import re
import numpy as np, pandas as pd
from made import class_table, labels_table, numbers_table
from fundus_fastai.core import read_json
from fundus_fastai.options import DataOptions, TrainOptions
from fundus_fastai.run.folder import provenance
from fundus_fastai.run.report import Report, people_table
from fundus_fastai.run.train import train_run
from fundus_fastai.score.calibration import add_calibration
from fundus_fastai.score.patients import score_as
from fundus_fastai.score.subgroups import subgroup_scores

def two(n=60, seed=0):
    "One picture an eye; some people have one ill eye"
    rng = np.random.default_rng(seed)
    y,p = rng.random(n)<.5,rng.random(n)
    return pd.DataFrame(dict(path=[f'{i}.png' for i in range(n)], patient=(np.arange(n)//2).astype(str), eye=['L','R']*(n//2),
                             target=np.where(y, 'abnormal', 'normal'), p_abnormal=p, p_normal=1-p))

def page(kind, test, valid=None, what='html', op=None, **kwargs):
    s = score_as(kind, test, op, valid=valid, n_boot=50, source='local')
    return getattr(Report(add_calibration(s, valid), **kwargs), what)()

def test_reasons_are_counted_where_there_are_several():
    "Nine eyes without an answer and one torn picture had been ten that 'cannot be read'"
    df = pd.DataFrame(dict(path=['a.png']*5))
    df.attrs.update(read=dict(images=9, patients=4), left_out=[(None,'b.png','torn'),(7,'c.png','no dx')], rows=10)
    provenance(df, 'phantom')
    assert df.attrs['read']['why']=='3 no usable answer to this question, 1 cannot be read'

SPLIT = pd.DataFrame(dict(patient=list('abc'), split=['train','valid','test']))

def test_two_classes():
    "Nothing said when a person with one ill eye is ill; an error of .002 in one bin says that the mean is right, and no more"
    text = page('category', two(), two(seed=1), split=SPLIT)
    assert 'The truth of a patient is the class of all the images (of normal and abnormal: abnormal where they differ).' in text
    assert 'chose the epoch, thresholds and the temperature<' in text and 'in 3 bins of equally many images' in text
    assert 'the share of the 60 images that show the finding' in text and 'Brier score:' not in text # of two classes it is the usual one
    assert '| abnormal | sensitivity 90 % |' in page('category', two(), two(seed=1), what='card')
    few = two(30).assign(patient=(np.arange(30)//15).astype(str))
    text = page('category', few)
    assert 'in 1 bin (the images' in text and '(no interval)' in text

def test_without_a_test_side_something_was_chosen_here():
    s = score_as('category', two(40), {}, split='valid', n_boot=20)
    for text in (Report(s).html(), Report(s).card()):
        assert 'chosen on these very images' in text and 'Nothing was chosen' not in text

def test_numbers():
    "Of ages validation had chosen thresholds and a temperature; nobody said what was guessed"
    text = page('number', numbers_table(40), split=SPLIT, op=dict(guess=50., unit='years'))
    assert 'chose the epoch<' in text and 'The truth of a patient is the mean over the images.' in text
    assert 'A constant guess is the median of validation images.' in text
    assert 'Error and bias by band, in years' in text and re.search(r'<td>[\d.]+ years \([\d.]+ to [\d.]+\)</td><td>-?[\d.]+ years', text) # of eyes

def test_labels():
    text = page('multilabel', labels_table(60).assign(target_haze=0))
    assert 'The truth of a patient is each label that any of the images has.' in text and 'the mean over the labels, in' in text and 'Brier score and log loss: means over the labels.' in text
    assert 'means of AUC, average precision and F1 are over the others' in text # Brier score and ECE are of all

def test_a_patient_without_one_truth_is_told():
    t = class_table(8, 2)
    t.loc[0,'target'] = 'DME' if t.target[0]!='DME' else 'CNV'
    text = page('category', t)
    assert 'nothing was scored by patient' in text and 'Brier score: squared errors of all classes together, 0 to 2.' in text

def test_the_largest_gap_is_between_two_groups():
    "Of two equal groups it had been the gap of left and left"
    t = two().assign(p_abnormal=.4, p_normal=.6)
    gaps = subgroup_scores(score_as('category', t, {}, n_boot=20))[1]
    assert len(gaps) and (gaps.highest!=gaps.lowest).all()

def test_who_is_on_each_side():
    df = pd.DataFrame(dict(path=list('abcd'), patient=list('ppqr'), split=['train']*3+['test'], age=[50,52,70,None], sex=['female',None,'male',None]))
    t = people_table(df).set_index('who')
    assert t.loc['age in years, patients: mean (SD)'].tolist()==['60.5 (13.4)','n/a'] and t.loc['age not known, patients'].tolist()==['0','1']
    assert t.loc['sex female, patients'].tolist()==['1 (50 %)','0'] and t.loc['sex not known, patients'].tolist()==['0','1 (100 %)']

def test_a_run_tells_its_people_its_lot_and_its_software(tmp_path):
    opts = TrainOptions('test_resnet', weights='none', size=32, fit='tune', epochs=1, freeze_epochs=0, bs=8, workers=0)
    train_run('laterality', DataOptions('phantom', patients=16), opts, maps=0, out=tmp_path/'r')
    text,card,c = (tmp_path/'r/report.html').read_text(),(tmp_path/'r/README.md').read_text(),read_json(tmp_path/'r/config.json')
    assert 'Who is on each side' in text and 'Who is on each side' in card and 'sex female, patients' in card
    assert 'Patients, with all their images, were dealt to the sides by lot' in text and c['dealt']=='patients'
    assert {'python','torch','timm','numpy'}<=set(c['versions']) and c['training']['device'] and f'torch {c["versions"]["torch"]}' in card
