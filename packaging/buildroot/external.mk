include $(sort $(wildcard $(BR2_EXTERNAL_RCAPTURE_PATH)/package/*/*.mk))
