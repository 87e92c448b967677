CREATE TABLE restaurant (
  credit_code varchar(18) NOT NULL COMMENT '统一信用代码',
  shop_name varchar(100) COMMENT '经营主体名称',
  manager varchar(50) COMMENT '负责人',
  manager_phone varchar(20) COMMENT '负责人电话',
  address varchar(200) COMMENT '营业地址',
  register_address varchar(200) COMMENT '注册住所',
  licence_no varchar(30) COMMENT '食品许可证编号',
  licence_expiry date COMMENT '许可证到期日',
  issuing_authority varchar(60) COMMENT '许可证发证机关',
  seats int COMMENT '餐位数',
  kitchen_area decimal(8,2) COMMENT '厨房面积',
  rating char(1) COMMENT '量化等级'
) COMMENT='餐饮单位台账';
