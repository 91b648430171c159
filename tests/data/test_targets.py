"Targets: what is understood, what is left out, and what never becomes the other class"
import pandas as pd, pytest
from PIL import Image
from fundus_fastai.core import DataError
from fundus_fastai.data.read import read_csv
from fundus_fastai.data.targets import (age_target, class_target, grade_target, labels_target, normal_target, rarest_label,
                                         sex_target, side_target, single_target)

def frame(*cells, col='label'): return pd.DataFrame({'path':list(map(str, range(len(cells)))), col:list(cells)})

def test_abnormal_is_told_and_never_what_says_nothing(capsys):
    df = normal_target(frame('normal','Healthy','AMD','AMD','CNV','?','ungradable','poor quality','tbd','New folder'))
    assert df.label.tolist()==['normal']*2+['abnormal']*3
    err = capsys.readouterr().err
    assert '5 of 10 images have no label' in err and 'AMD 2, CNV 1' in err

def test_two_classes_of_other_names_stay(): assert set(normal_target(frame('healthy','ill')).label)=={'healthy','ill'}

def test_look_alike_classes_are_one(capsys):
    assert class_target(frame('CNV','CNV','cnv','Normal','Normal ','-')).label.tolist()==['CNV']*3+['Normal']*2
    assert "'cnv' (1) as 'CNV'" in capsys.readouterr().err

@pytest.mark.parametrize('cells,want', [('No_DR Mild Moderate Severe Proliferate_DR', '01234'), ('0 1.0 2', '012'), ('Normal PDR mild', '041')])
def test_grades(cells, want): assert grade_target(frame(*cells.split())).label.tolist()==list(want)

def test_a_column_is_the_one_that_was_asked_for(tmp_path):
    "however it is written; one that is not there is an error, and no other stands for it"
    for k in range(3): Image.new('RGB', (64,64)).save(tmp_path/f'{k}.png')
    (tmp_path/'t.csv').write_text('file,dx,Glaucoma\n0.png,AMD,yes\n1.png,normal,no\n2.png,AMD,no\n')
    df = read_csv(tmp_path/'t.csv', label='dx')
    assert class_target(df, 'glaucoma').label.tolist()==['yes','no','no']
    for name in ('dx','DX',None): assert class_target(df, name).label.tolist()==['AMD','normal','AMD']
    with pytest.raises(DataError, match="the data has no column 'typo'"): class_target(df, 'typo')

def test_coarse_grades_stay(): assert grade_target(frame('No DR','NPDR','pdr','?')).label.tolist()==['0','NPDR','PDR']

def test_eyes_in_words():
    assert side_target(frame('Left','RIGHT','od','OI', col='side'), 'side').label.tolist()==['left','right','right','left']
    with pytest.raises(DataError, match='1 values of the column side are no known eye: both'): side_target(frame('Left','both', col='side'), 'side')

def test_ages_and_sexes():
    assert age_target(frame('061Y','50,5','unknown', col='age')).label.tolist()==[61,50.5]
    with pytest.raises(DataError, match='1 ages are not between 0 and 120 years: >89'): age_target(frame('61','>89', col='age'))
    assert sex_target(frame('H','M', col='sex')).label.tolist()==['male','female']
    assert sex_target(frame('0','1', col='sex')).label.tolist()==['0','1']

@pytest.mark.parametrize('target', [side_target, labels_target, normal_target, grade_target, age_target, sex_target])
def test_advice_suits_a_tree(target):
    "A tree has no columns to choose from"
    for name,says in (('csv','`label='), ('folder','names of its folders')):
        (df := frame('a','b','c').assign(eye=None)).attrs['name'] = name
        with pytest.raises(DataError, match=says) as e: target(df)
        assert ('`label=' in str(e.value))==(name=='csv')

def test_a_label_of_a_tree_is_not_passed_over():
    df = frame('a','b')
    for df.attrs['name'] in ('folder','kermany2018'):
        with pytest.raises(DataError, match="no column 'dx': the names of its folders"): class_target(df, 'dx')
    df.attrs.update(name='csv', label='dx')
    assert class_target(df, 'dx').label.tolist()==['a','b']

def test_a_label_that_is_not_told_is_none_that_is_absent(capsys):
    "Who has one label for sure and another that nobody looked at has not exactly one"
    df = pd.DataFrame(dict(path=list('abcd'), patient=list('abcd'), DR=[1,1,0,1], AMD=[0,None,1,0]))
    df.attrs = dict(labels=('DR','AMD'), source='local', name='csv')
    got = single_target(df)
    assert got.path.tolist()==['a','c','d'] and got.label.tolist()==['DR','AMD','DR']
    assert '1 of 4' in capsys.readouterr().err

def test_labels_of_1_and_blanks_alone(tmp_path, capsys):
    "Many write them so: a blank is a no, where no 0 stands beside it"
    for k in range(4): Image.new('RGB', (64,64)).save(tmp_path/f'{k}.png')
    def labels(*cells):
        (tmp_path/'t.csv').write_text('file,DR,AMD\n'+''.join(f'{i}.png,{o}\n' for i,o in enumerate(cells)))
        df = single_target(read_csv(tmp_path/'t.csv', label='DR,AMD'))
        return dict(zip(df.path.str[-5], df.label)),capsys.readouterr().err
    found,err = labels('1,','1,0','0,1',',1')
    assert found=={'1':'DR','2':'AMD'} and '2 of 4 images have no finding on DR and AMD and are left out' in err
    found,err = labels('1,','1,1',',1','1,')
    assert found=={'0':'DR','2':'AMD','3':'DR'} and 'DR, AMD hold 1 and blanks alone: a blank is read as 0' in err

@pytest.mark.parametrize('cell', ['0.5','R2','0 - no DR'])
def test_odd_grades_are_shown_as_they_stand(cell):
    df = pd.DataFrame(dict(path=list('ab'), patient=list('ab'), grade=['1',cell]))
    with pytest.raises(DataError, match=f'the data has {cell}:'): grade_target(df)
    assert grade_target(df.assign(grade=['1,0','2.0'])).label.tolist()==['1','2']

def many(**cols):
    (df := pd.DataFrame(cols)).attrs.update(labels=tuple(o for o in cols if o!='path'), source='local', name='csv')
    return df

def test_labels_and_the_rarest_of_each_image(capsys):
    "By hand: 3 DR, 2 AMD, 1 RVO among five images; the sixth has a cell that says nothing"
    df = many(path=list('abcdef'), DR=[1,1,1,0,0,1], AMD=[1,1,0,0,0,0], RVO=[0,1,0,0,0,None], CNV=[0]*6)
    got = labels_target(df)
    assert got.path.tolist()==list('abcde') and got.index.tolist()==[0,1,2,3,4]
    assert got.label.tolist()==['DR + AMD','DR + AMD + RVO','DR','none','none']
    assert got.attrs['labels']==('DR','AMD','RVO') and got.DR.tolist()==[1,1,1,0,0] # a column that no image has is not asked
    assert rarest_label(got).tolist()==['AMD','RVO','DR','none','none']
    err = capsys.readouterr().err
    assert '1 of 6 images' in err and 'no image has the label CNV: it is not asked' in err and '2 of 5 images have none' in err
    with pytest.raises(DataError, match=r"no image has the label CNV: leave it out with `label=\['DR'\]`"): labels_target(df, ['DR','CNV'])
    with pytest.raises(DataError, match='no image has the label DR, AMD'): labels_target(many(path=['a'], DR=[0], AMD=[0]))
    labels_target(many(path=list('ab'), DR=[1,0], AMD=[0,1]))
    assert capsys.readouterr().err=='' # nothing to tell

def test_the_rarest_is_by_number_of_images(): # and a label that nobody has is nobody's
    assert rarest_label(many(A=[1,1,1,0], B=[1,0,0,0], C=[0]*4)).tolist()==['B','A','A','none']

def test_normal_by_its_own_column(capsys):
    got = normal_target(pd.DataFrame(dict(path=list('abc'), normal=[1,None,0])))
    assert got.path.tolist()==['a','c'] and got.label.tolist()==['normal','abnormal']
    assert '1 of 3 images have no finding of normal or not' in capsys.readouterr().err
    with pytest.raises(DataError, match="'normal' is to hold 0 and 1, and holds 2"):
        normal_target(pd.DataFrame(dict(path=list('ab'), normal=[1,2])))

def test_one_label_alone(capsys):
    "Rows are numbered anew; those of labels that were not asked for are counted"
    df = many(path=list('abcde'), DR=[0,1,1,0,0], AMD=[1,0,1,0,0], RVO=[0,0,0,0,1])
    got = single_target(df, ['AMD','DR'])
    assert got.path.tolist()==['a','b'] and got.label.tolist()==['AMD','DR'] and got.index.tolist()==[0,1]
    assert '1 images with several labels, 1 with none and 1 of other labels' in capsys.readouterr().err
    assert single_target(df, ['RVO']).index.tolist()==[0]
    with pytest.raises(DataError, match='no image has exactly one of the labels RVO'): single_target(df.iloc[:4], ['RVO'])

def test_what_is_left_out_is_shown_but_not_what_is_kept(capsys):
    class_target(frame('CNV','?',None))
    err = capsys.readouterr().err
    assert '2 of 3 images have no label' in err and '(?)' in err and 'CNV' not in err
